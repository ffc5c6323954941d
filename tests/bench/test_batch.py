"""Many examples: `batch()` against DSPy's own ways and a gather written by hand, in one run. Alone on the machine."""

from __future__ import annotations

import pytest

from benchmarks.batch import IN_FLIGHT, measure

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

OURS = "ours: batch()"
THREADS = ("dspy.Parallel, 1,000 threads", "Evaluate, 1,000 threads")
BY_HAND = ("gather by hand", "gather by hand, our pool")


def test_batch_is_the_fastest_or_nearly() -> None:
    """And takes less memory than threads; code written with `async` takes less still, see docs/batch.md."""
    found = measure(3000, [*THREADS, *BY_HAND, OURS])
    ours = found.pop(OURS)
    for name, other in found.items():
        if other:  # 1,000 threads may be more than a machine has
            ratios = {what: round(ours[what] / other[what], 2) for what in ("seconds", "cpu", "megabytes")}
            print(f"\nours against {name}: {ratios}", end="")
    assert ours["peak"] == IN_FLIGHT
    assert ours["seconds"] <= 1.05 * min(other["seconds"] for other in found.values() if other)
    assert all(ours["megabytes"] < found[name]["megabytes"] for name in THREADS if found[name])
