"""Connection pools that LM calls side by side run into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from ..limits.assignment import limit_of
from ..targets import Target
from .blocking_calls import is_dspys_own
from .caps import connections, widened
from .fan_out import FanOut, fan_outs_of
from .findings import Finding, Place
from .programs import MARK, Program
from .reading import Call, product
from .sources import place_of
from .values import Known, Method, Value, class_of

__all__ = ["connection_findings"]


@dataclass(frozen=True)
class _Calls:
    """LM calls at the same time.

    Attributes:
        place: The line that makes so many of them.
        program: Whose line it is.
        width: How many; None if that can't be told.
        lms: Those that may be asked.
        is_ours: Whether this package is in use where they are made.
    """

    place: Place
    program: str
    width: int | None
    lms: list[Any]
    is_ours: bool


def connection_findings(target: Target, programs: Sequence[Program], in_flight: int, peak: int) -> Iterator[Finding]:
    """Connection pools that are smaller than the number of LM calls at once.

    Args:
        target: The program.
        programs: What it consists of.
        in_flight: Runs of it at the same time.
        peak: LM calls at the same time in one run, as far as one has been watched; else 1.
    """
    widest: dict[str, tuple[_Calls, int]] = {}
    every = [_of_whole(target, programs)]
    every += [calls for program in programs for calls in _of_program(program)]
    every += [calls for fan_out in fan_outs_of(target, programs) for calls in _of_fan_out(fan_out)]
    for calls in every:
        for lm in calls.lms:
            cap = _limit(lm, is_ours=calls.is_ours)
            if cap is None or in_flight * max(calls.width or 1, peak) <= cap[0]:
                continue
            known = widest.get(cap[1])
            if known is None or _rank(calls) > _rank(known[0]):
                widest[cap[1]] = calls, cap[0]
    for who, (calls, limit) in widest.items():
        at_once = in_flight * max(calls.width or 1, peak)
        yield Finding(
            "connection-cap",
            "warning",
            calls.place,
            calls.program,
            f"{at_once:,} LM calls at once: {who} opens {limit:,} connections at most.",
            f"{-(-at_once // limit)} turns instead of one, however the calls are made.",
            "limit(lm, ...), so that calls wait where you can see it; or a higher `ulimit -n`."
            if calls.is_ours
            else "@async_module, run() or parallelize_graph(), with which pools are as large as the process may have "
            "files open; and limit(lm, ...) for what the provider accepts.",
        )


def _rank(calls: _Calls) -> tuple[int, bool]:
    """What is known to be wide, before what may be, before what is not."""
    return calls.width or 1, calls.width is None


def _limit(lm: Any, *, is_ours: bool) -> tuple[int, str] | None:
    stock, limit = connections(lm), limit_of(lm)
    if stock is None or (limit is not None and limit.settings.max_in_flight):  # it is that one that they wait for
        return None
    return stock if limit is None and not is_ours else widened()


def _of_whole(target: Target, programs: Sequence[Program]) -> _Calls:
    """One call, of any LM that there is: what cannot be read may ask it."""
    place = place_of(target.value) if target.kind == "module" else programs[0].place
    lms = [*_ambient(()), *(lm for program in programs for lm in _of_parts(program.subject))]
    return _Calls(place, target.name, 1, lms, any(_is_ours(program) for program in programs))


def _of_program(program: Program) -> Iterator[_Calls]:
    ambient, is_ours = _ambient(program.calls), _is_ours(program)
    for call in program.calls:
        asked, method = _asked(call)
        cls = class_of(asked)
        if cls is None or (isinstance(asked, Known) and isinstance(asked.value, type)):
            continue
        if issubclass(cls, dspy.BaseLM) or (issubclass(cls, dspy.Module) and is_dspys_own(cls)):
            lms = _of_parts(getattr(asked, "value", None)) or ambient
            # On the loop, a call that is not awaited lets no other go on beside it.
            width = call.width if method in ("acall", "aforward") else int(program.where != "loop")
            yield _Calls(call.place, program.name, width, lms, is_ours)


def _of_fan_out(fan_out: FanOut) -> Iterator[_Calls]:
    """The calls of nodes on the event loop; in threads there are never more than a pool has connections."""
    on_loop = [list(_of_program(node)) for node in fan_out.nodes if node.where != "threads"]
    asking = [max(calls, key=_rank) for calls in on_loop if calls]
    if not asking:
        return
    if fan_out.sent_at is not None:
        width = product(fan_out.width, max(asking, key=_rank).width)
    else:
        widths = [calls.width for calls in asking]
        width = None if None in widths else sum(width or 0 for width in widths)
    if width is not None and fan_out.limit is not None:
        width = min(width, fan_out.limit)
    lms = [lm for calls in asking for lm in calls.lms]
    place = fan_out.sent_at or asking[0].place
    yield _Calls(place, asking[0].program, width, lms, any(calls.is_ours for calls in asking))


def _asked(call: Call) -> tuple[Value | None, str]:
    """The module or LM that a call is for, and the method that is called, if it is written as one."""
    callee = call.callee
    if not isinstance(callee, Method):
        return callee, ""
    name = getattr(callee.function, "__name__", "")
    return (callee.owner, name) if name in ("acall", "aforward", "forward") else (None, name)


def _ambient(calls: Sequence[Call]) -> list[Any]:
    """The LM that is configured, and those that calls are given, as in `dspy.context(lm=...)`."""
    given = [call.scope.resolve(word.value) for call in calls for word in call.node.keywords if word.arg == "lm"]
    named = [value.value for value in given if isinstance(value, Known)]
    return [lm for lm in [dspy.settings.lm, *named] if isinstance(lm, dspy.BaseLM)]


def _of_parts(value: Any) -> list[Any]:
    """The LMs of a module and its parts; an LM itself."""
    if isinstance(value, dspy.BaseLM):
        return [value]
    parts = [value, *(part for _, part in value.named_sub_modules())] if isinstance(value, dspy.Module) else []
    return [lm for part in parts for name in ("lm", "_lm") if isinstance(lm := vars(part).get(name), dspy.BaseLM)]


def _is_ours(program: Program) -> bool:
    """Whether this package is in use: it runs the program, or the program calls it, or it is installed for all."""
    is_for_all = hasattr(getattr(dspy.Module, "aforward", None), MARK)
    return program.where == "bridge" or is_for_all or any(_is_to_us(call) for call in program.calls)


def _is_to_us(call: Call) -> bool:
    callee = call.callee
    function = getattr(callee, "function", None) or getattr(callee, "value", None)
    cls = class_of(callee.owner if isinstance(callee, Method) else callee)
    is_marked = hasattr(getattr(cls, "aforward", None), MARK) or hasattr(getattr(cls, "acall", None), MARK)
    return is_marked or str(getattr(function, "__module__", "")).startswith("dspy_parallel.")
