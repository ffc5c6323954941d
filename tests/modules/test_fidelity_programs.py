"""Random programs do the same in the bridge as when they are called."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.modules.strategies import Body, build, mark, needs_thread, programs
from tests.support.observation import PROCESS_WIDE, WAYS, assert_same, differences, observe, observe_together
from tests.support.stub_lms import MAKERS, NEEDS_THREAD

THREADS = tuple(way for way in WAYS if way not in ("sync", "loop"))
SETTINGS = {"allow_tool_async_sync_conversion": True, "max_errors": 10}


def maker(body: Body) -> Any:
    return lambda world: (build(body, world), ("begin",), {})


def lm_maker(lm: str | None) -> Any:
    return lambda: {label: MAKERS[lm](label) if lm else None for label in ("main", "other")}


def ways(body: Body, lm: str | None) -> tuple[str, ...]:
    return THREADS if lm in NEEDS_THREAD or needs_thread(body) else WAYS[1:]


def check(body: Body, lm: str | None = "twin", usage: bool = True, **options: Any) -> dict[str, Any]:
    options = {**SETTINGS, "track_usage": usage, "probe": mark.get, **options}
    return assert_same(maker(body), lm_maker(lm), ways(body, lm), **options)


@given(programs(), st.sampled_from(sorted(MAKERS)), st.booleans())
@example([("try", [("fail", 0)], [("settings",)]), ("predict", 2)], "twin", True)
@example([("context", "callbacks", [("predict", 0), ("module", [("raise", "from")])])], "twin", True)
@example([("parallel", 3), ("pool",), ("tool", "asking")], "twin", True)
@example(
    [("subclass", [("predict", 0)], [("count",)]), ("patched", [("predict", 1)]), ("forward", [("count",)])],
    "sync",
    False,
)
def test_random_programs(body: Body, lm: str, usage: bool) -> None:
    """Output, exception, effects, trace, usage, histories, callbacks, warnings and log are the same."""
    check(body, lm, usage)


@pytest.mark.stress
@given(programs(60), st.sampled_from(sorted(MAKERS)), st.booleans())
def test_large_random_programs(body: Body, lm: str, usage: bool) -> None:
    check(body, lm, usage)


@given(st.lists(st.tuples(programs(4), st.sampled_from(sorted(MAKERS))), min_size=2, max_size=4), st.booleans())
@example([([("predict", 0), ("raise", "Halt")], "twin"), ([("module", [("predict", 1)]), ("usage",)], "twin")], True)
def test_random_programs_at_the_same_time(several: list[tuple[Body, str]], usage: bool) -> None:
    """Each on its own engine; of each is seen what is seen of it alone."""
    options = {**SETTINGS, "track_usage": usage, "probe": mark.get}
    makes, lms = [maker(body) for body, _ in several], [lm_maker(lm) for _, lm in several]
    chosen = [ways(body, lm)[n % len(ways(body, lm))] for n, (body, lm) in enumerate(several)]
    alone = [observe(make, "sync", make_lms, **options) for make, make_lms in zip(makes, lms, strict=True)]
    for expected, found in zip(alone, observe_together(makes, chosen, lms, **options), strict=True):
        own = {name: value for name, value in expected.items() if name not in PROCESS_WIDE}
        assert not differences(own, found), differences(own, found)


def test_on_every_event_loop(loop_kind: str) -> None:
    """A program that does a bit of everything."""
    body: Body = [
        ("mark", "a"),
        ("context", "adapter", [("predict", 1), ("try", [("fail", 1)], [("predict", 0)])]),
        ("loop", 2, [("module", [("count",), ("predict", 2)]), ("settings",)]),
        ("branch", [("generate", 2)], [("best_of_n", 2)]),
        ("finally", [("raise", "bare")], [("predict", 2)]),
    ]
    seen = check(body, loop_kind=loop_kind)
    assert seen["exception"][0] == "Trouble"


@pytest.mark.parametrize("kind", ["predict", "fail", "bad_input", "ask_lm", "best_of_n", "parallel", "tool", "usage"])
@pytest.mark.parametrize("lm", sorted(MAKERS))
def test_each_kind_of_call(kind: str, lm: str) -> None:
    arguments = {"ask_lm": (), "usage": (), "tool": ("asking",)}.get(kind, (1,))
    seen = check([(kind, *arguments), ("settings",)], lm)
    assert seen["callbacks"]


def test_no_lm() -> None:
    """The error is DSPy's own."""
    seen = check([("try", [("predict", 0)], [("settings",)]), ("predict", 0)], lm=None)
    assert "No LM is loaded" in seen["exception"][1]
