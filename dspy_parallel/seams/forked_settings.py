"""What one of several concurrent runs leaves in DSPy's settings, kept apart until it is its turn.

DSPy appends to one trace, one usage tracker and one history, as calls end. Each branch has a trace and a tracker of its
own, and its history entries are noted, so that afterwards all three read as if the branches had run one by one.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterable
from typing import Any, cast

import dspy
from dspy.clients.base_lm import GLOBAL_HISTORY
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.utils.usage_tracker import UsageTracker

from .table import Seam, register

__all__ = ["ForkedSettings", "merge"]

SETTING = "dspy_parallel_branch"

Noted = tuple[dict[str, Any], list[list[dict[str, Any]]]]
"""A history entry, and the lists that it was appended to."""


class ForkedSettings:
    """One run's own trace, usage and history, in a copy of the caller's context.

    Args:
        counts: Whether usage is counted even if the caller does not; without effect on what the run returns.
        notes: Whether history entries are noted, for `merge()`.
    """

    def __init__(self, *, counts: bool = False, notes: bool = True) -> None:
        settings = dspy.settings
        self._to_trace: list[Any] | None = settings.trace
        self._to_tracker: Any = settings.usage_tracker
        self._to_notes: list[Noted] | None = settings.get(SETTING)
        self._trace: list[Any] = []
        self._notes: list[Noted] = []
        own: dict[str, Any] = {SETTING: self._notes} if notes else {}
        if self._to_trace is not None:
            own["trace"] = self._trace
        self.tracker: Any = None
        # Under `track_usage`, a module without a tracker around it counts for itself and tells in its prediction.
        if self._to_tracker is not None or (counts and not settings.track_usage):
            own["usage_tracker"] = self.tracker = UsageTracker()
        self.context = contextvars.copy_context()
        self.context.run(thread_local_overrides.set, cast("Any", {**thread_local_overrides.get(), **own}))

    def merge(self) -> None:
        """Add trace and usage to the caller's."""
        if self._to_trace is not None and dspy.settings.max_trace_size > 0:
            self._to_trace.extend(self._trace)
            del self._to_trace[: -dspy.settings.max_trace_size]
        if self._to_tracker is not None:
            for lm, entries in self.tracker.usage_data.items():
                self._to_tracker.usage_data[lm].extend(entries)

    def hand_on(self) -> list[Noted]:
        """The history entries; also to the branch around this one."""
        if self._to_notes is not None:
            self._to_notes.extend(self._notes)
        return self._notes


def merge(branches: Iterable[ForkedSettings], dropped: Iterable[ForkedSettings] = ()) -> None:
    """Make trace, usage and history what they were, had the branches run one after the other, and the dropped never."""
    ranks: dict[int, int] = {}
    lists: dict[int, list[dict[str, Any]]] = {}
    expected: dict[int, int] = {}

    def note(entry: dict[str, Any], where: list[list[dict[str, Any]]], rank: int) -> None:
        ranks[id(entry)] = rank
        for history in where:
            lists[id(history)] = history
            expected[id(history)] = expected.get(id(history), 0) + 1

    kept = []
    for branch in branches:
        branch.merge()
        kept += branch.hand_on()
    for number, (entry, where) in enumerate(kept):
        note(entry, where, number)
    out = [noted for branch in dropped for noted in branch._notes]
    for entry, where in out:
        note(entry, where, -1)
    for key, history in lists.items():
        _sort(history, ranks, expected[key])


def _sort(history: list[dict[str, Any]], ranks: dict[int, int], expected: int) -> None:
    """Put the ranked entries in order where they stand among others', and take out those of rank -1."""
    places = []
    for place in range(len(history) - 1, -1, -1):
        if id(history[place]) in ranks:
            places.append(place)
            if len(places) == expected:
                break
    places.reverse()
    entries = sorted((history[place] for place in places), key=lambda entry: ranks[id(entry)])
    entries = [entry for entry in entries if ranks[id(entry)] >= 0]
    for place, entry in zip(places, entries):  # noqa: B905 - the places left over are those of dropped entries
        history[place] = entry
    for place in reversed(places[len(entries) :]):
        del history[place]


def _record(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # `update_history(entry)` of an LM, or `record_history(client, entry)`
    entry = kwargs.get("entry", args[-1] if args else None)
    client = args[0] if len(args) > 1 else owner
    if isinstance(entry, dict) and not dspy.settings.disable_history:
        modules = dspy.settings.caller_modules or []
        own_histories = dspy.settings.get("dspy_parallel_histories") or ()
        where = [GLOBAL_HISTORY, client.history, *(module.history for module in modules), *own_histories]
        dspy.settings[SETTING].append((entry, where))
    return original(*args, **kwargs)


def _is_noted() -> bool:
    return dspy.settings.get(SETTING) is not None


register(
    Seam("dspy.clients.base_lm:BaseLM.update_history", _record, when=_is_noted, layer="branches"),
    Seam("dspy.clients.typesafe:record_history", _record, when=_is_noted, layer="branches", since="3.4"),
)
