"""Additive increase, multiplicative decrease."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dspy_parallel.limits.limiter import DECREASE, Window


def test_a_refusal_shrinks_by_a_factor_once_per_round() -> None:
    """The refusals of one burst count once; those of calls that were sent later count again."""
    window = Window(100)
    for _ in range(30):
        window.refused(sent_at=1.0, now=2.0, in_flight=100)
    assert window.size == 100 * DECREASE
    window.refused(sent_at=2.5, now=3.0, in_flight=70)
    assert window.size == 70 * DECREASE


def test_successes_grow_it_back_by_a_step_per_window() -> None:
    """It takes some windows, and ends where it began."""
    window = Window(100)
    window.refused(1.0, 2.0, 100)
    sizes = [window.size]
    for _ in range(100):
        for _ in range(int(window.size)):
            window.succeeded()
        sizes.append(window.size)
    assert sizes[-1] == 100
    steps = [after - before for before, after in itertools.pairwise(sizes) if after < 100]
    assert all(1.5 < step < 2.1 for step in steps), steps


def test_without_a_bound_the_first_refusal_tells_the_size() -> None:
    """From what was in flight then."""
    window = Window(None)
    assert window.has_room(10**9)
    window.refused(1.0, 2.0, 40)
    assert window.size == 40 * DECREASE
    window.succeeded()
    assert 28 < window.size < 29


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=200), st.integers(1, 50))
def test_there_is_always_room_for_one_and_never_for_more_than_asked(
    events: list[tuple[bool, float]], most: int
) -> None:
    """Whatever happens."""
    window = Window(most)
    for refused, at in events:
        if refused:
            window.refused(at, at + 1, in_flight=1)
        else:
            window.succeeded()
        assert window.has_room(0)
        assert not window.has_room(most)
