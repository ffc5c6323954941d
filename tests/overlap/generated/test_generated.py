"""Random Python programs do the same overlapped as in sequence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, event, given, note, settings
from hypothesis import strategies as st

from tests.overlap.generated.running import run_both
from tests.overlap.generated.source import programs
from tests.overlap.observing import assert_same

STRESS = settings.get_profile("stress").max_examples
EXAMPLES = {25: 40, 10: 20, STRESS: 250}.get(settings().max_examples, 40)
PARTS = 40 if settings().max_examples == STRESS else 1
"""Under stress, 10,000 programs: in parts, as what Hypothesis remembers of each makes the next one slower."""


class Tally:
    """What the programs were like: a test in which nothing overlaps proves nothing."""

    def __init__(self) -> None:
        self.programs = self.timed = self.sped_up = self.raised = self.excused = self.calls = 0


@pytest.fixture(scope="module")
def tally() -> Iterator[Tally]:
    """Some programs have to be faster than in sequence, and in few calls too many are allowed for."""
    counted = Tally()
    yield counted
    print(f"\n{vars(counted)}")
    # A third is usual, but there may be no more than a dozen.
    assert counted.sped_up > (counted.timed / 20 if PARTS == 1 else counted.programs / 5)
    assert counted.excused / counted.programs < 0.4


@pytest.mark.timeout(1800)  # a program that fails takes minutes to shrink
@pytest.mark.parametrize("part", range(PARTS))
@settings(max_examples=EXAMPLES)
@given(source=programs(), way=st.sampled_from(["overlapped"] * 4 + ["called", "threaded", "by default"]))
def test_random_programs(
    part: int, source: str, way: str, tmp_path_factory: pytest.TempPathFactory, tally: Tally
) -> None:
    """Output or exception, trace, usage, LM calls, callbacks, histories and side effects in their order."""
    check(source, way, tmp_path_factory.getbasetemp(), tally)


def check(source: str, way: str, directory: Path, tally: Tally) -> None:
    note(source)
    seen = run_both(source, directory, way)
    assume(seen is not None)
    assert seen is not None
    expected, found = seen
    assert_same(expected, found)
    tally.programs += 1
    tally.calls += len(found.requests)
    raised = expected.everything.get("exception")
    tally.raised += raised is not None
    tally.excused += bool(expected.excuses)
    event(f"raised {raised[0]}" if raised else "returned")
    if found.seconds:
        speedup = found.sequentially / found.seconds
        tally.timed += 1
        event(f"sped up {min(int(speedup), 4)} times")
        tally.sped_up += speedup > 1.05
