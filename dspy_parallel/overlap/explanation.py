"""`explain()`: what overlapped with what, what did not, and why."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dspy

from ..bridge import run_sync
from ..display import Line, Shown
from ..errors import TargetError, described
from ..escapes import escaped
from . import api
from .prefetcher import Reason, Scout
from .runner import run_ahead
from .session import Call, Session

__all__ = ["CallReport", "OverlapReport", "explain"]


@dataclass
class CallReport:
    """One call of a predictor, or of a function that is declared pure.

    Attributes:
        name: The predictor, as in `named_predictors()`; or the function.
        place: File and line of the call.
        began: Seconds from the program's beginning until the call was made, by whomever.
        ended: Seconds until it was done.
        is_early: Whether it was made ahead of its turn.
        overlapped_with: Numbers of the calls that were in flight at the same time, from 1.
        waited_for: Which call had to be done first, and why, in words; empty if it was made at once.
        is_predictor: Whether it is a predictor's.
    """

    name: str
    place: str
    began: float
    ended: float
    is_early: bool
    overlapped_with: list[int] = field(default_factory=list)
    waited_for: str = ""
    is_predictor: bool = True

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass
class OverlapReport(Shown):
    """How a program overlapped. `str()` is to be read; so are what rich prints and a notebook shows.

    Attributes:
        calls: The calls in the program's own order.
        early: How many calls were made ahead of their turn.
        joined: How many of these the program came to, and took.
        discarded: How many it did not come to, or came to with other inputs. The LM was asked all the same.
        cancelled: How many of the discarded were cancelled in flight; the others had been answered.
        sequential_seconds: How long the calls took, one after the other.
        overlapped_seconds: How long the program took.
        critical_path: Numbers of the calls, from 1, each of which had to wait for the one before it, up to the one
            that was done last.
        reasons: Where something could not be done ahead of its turn, `file.py:12`, and why.
        exception: What the program raised, if it did.
    """

    calls: list[CallReport]
    early: int
    joined: int
    discarded: int
    cancelled: int
    sequential_seconds: float
    overlapped_seconds: float
    critical_path: list[int]
    reasons: list[tuple[str, str]]
    exception: BaseException | None = None

    def _lines(self) -> Iterator[Line]:
        for text, style in self._said():
            yield [(escaped(text), style)]

    def _said(self) -> Iterator[tuple[str, str]]:
        faster = self.sequential_seconds / self.overlapped_seconds if self.overlapped_seconds else 1.0
        yield (
            f"{len(self.calls)} calls: {self.sequential_seconds:.2f} s one after the other, "
            f"{self.overlapped_seconds:.2f} s overlapped ({faster:.1f}x)",
            "bold",
        )
        yield (
            f"{self.early} made early, {self.joined} of them used, {self.discarded} discarded "
            f"({self.cancelled} cancelled in flight)",
            "",
        )
        for number, call in enumerate(self.calls, 1):
            mark = "*" if number in self.critical_path else " "
            line = f"{mark}{number:3} {call.began:7.2f} - {call.ended:6.2f} s  {call.name}  {call.place}"
            yield line + ("  (early)" if call.is_early else ""), "lm" if call.is_early else ""
            if call.overlapped_with:
                yield f"       at the same time as {', '.join(map(str, call.overlapped_with))}", "dim"
            if call.waited_for:
                yield f"       waited for {call.waited_for}", "dim"
        yield f"critical path (*): {' -> '.join(map(str, self.critical_path)) or 'no calls'}", ""
        for place, reason in self.reasons:
            yield f"{place}: {reason}", "tool"
        if self.exception is not None:
            yield f"raised {type(self.exception).__name__}: {self.exception}", "bad"


def explain(program: Any, /, *args: Any, **inputs: Any) -> OverlapReport:
    """Run a program once with overlap, and tell which calls overlapped, which did not, and why.

    The program need not be decorated. It runs as from sync code (see `run_sync()`), makes its LM calls, and has its
    effects. An exception that it raises is in the report. A graph has to be parallelised with `overlap=True`, and is
    invoked: `explain(graph, input, config)`.

    Args:
        program: A `dspy.Module`, a function that calls predictors, or a compiled graph.
        *args: What it is called with.
        **inputs: What it is called with.

    Returns:
        The report.

    Raises:
        TargetError: If it is no such program: a class, say; or cannot be called with these arguments.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import explain

        with dspy.context(lm=DummyLM([{"answer": "4"}])):
            report = explain(dspy.Predict("question -> answer"), question="2 + 2?")
        assert len(report.calls) == 1
        print(report)
        ```
    """
    for run_graph in api.GRAPHS:
        if (ended := run_graph(program, *args, **inputs)) is not None:
            return report_of(ended.session, ended.reasons, program, ended.exception)
    _check_call(program, args, inputs)
    seen: list[tuple[Session, Scout]] = []

    def watch(session: Session, scout: Scout) -> None:
        session.notes_places = True
        seen.append((session, scout))

    async def once() -> BaseException | None:
        try:
            await run_ahead(program, args, inputs, "auto", watch)
        except Exception as exc:
            return exc
        return None

    exception: Any = run_sync(once)
    session, scout = seen[0]
    return report_of(session, [*scout.reasons, *scout.waits], program, exception)


def _check_call(program: Any, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
    """Say it before anything runs: what a program raises is a part of the report, and a mistyped name is not."""
    if isinstance(program, type) or not callable(program):
        what = f"the class {program.__qualname__}" if isinstance(program, type) else described(program)
        raise TargetError(f"explain() was given {what}. Give it an instance of a dspy.Module, or a function.")
    function = getattr(program, "forward", None) if isinstance(program, dspy.Module) else program
    if isinstance(program, dspy.Predict) or function is None:
        return  # takes whatever its signature has, and warns about the rest
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **inputs)
    except TypeError as error:
        raise TargetError(f"explain() cannot call {described(function)}: {error}.") from None


def report_of(session: Session, found: list[Reason], program: Any, exception: BaseException | None) -> OverlapReport:
    """The report of a run that has ended."""
    names = _names(program)
    mains = [call for call in session.calls if call.side == "main"]
    reports = [_of_call(call, session, names) for call in mains]
    early = [call for call in session.calls if call.side == "scout" and call.is_issued and not call.is_whole]
    _find_overlaps(reports, session.ended - session.began)
    reasons = [(_written(reason.place), reason.text) for reason in found]
    causes = _causes(mains)
    _find_waits(reports, causes, found)
    return OverlapReport(
        calls=reports,
        early=len(early),
        joined=sum(call.partner is not None and not call.has_diverged for call in early),
        discarded=sum(call.partner is None or call.has_diverged for call in early),
        cancelled=sum(call.was_cancelled for call in early),
        sequential_seconds=sum(report.seconds for report in reports),
        overlapped_seconds=session.ended - session.began,
        critical_path=_critical_path(reports, causes),
        reasons=list(dict.fromkeys(reasons)),
        exception=exception,
    )


def _names(program: Any) -> dict[int, str]:
    """Of a module's predictors; for a method or a function also of those in attributes and global variables."""
    if isinstance(program, dspy.Module):
        return {id(predictor): name for name, predictor in program.named_predictors()}
    code: Any = getattr(program, "__code__", None)
    near = {name: program.__globals__.get(name) for name in getattr(code, "co_names", ())}
    near |= getattr(getattr(program, "__self__", None), "__dict__", {})
    return {
        id(predictor): name if inner == "self" else f"{name}.{inner}"
        for name, module in near.items()
        if isinstance(module, dspy.Module)
        for inner, predictor in module.named_predictors()
    }


def _of_call(call: Call, session: Session, names: dict[int, str]) -> CallReport:
    made = _maker(call)
    ended = made.ended or session.ended
    signature = getattr(call.target, "signature", None)
    name = names.get(id(call.target)) or getattr(call.target, "__qualname__", "") or str(signature.signature)  # type: ignore[union-attr]
    place = made.place or call.place
    seconds = made.began - session.began, ended - session.began
    return CallReport(
        name, _written(place), *seconds, made is not call, is_predictor=isinstance(call.target, dspy.Module)
    )


def _maker(call: Call) -> Call:
    """The side that made the request."""
    partner = call.partner
    return partner if partner is not None and partner.is_issued and not call.has_diverged else call


def _written(place: tuple[str, int] | None) -> str:
    return "?" if place is None else f"{Path(place[0]).name}:{place[1]}"


def _find_overlaps(reports: list[CallReport], whole: float) -> None:
    for one in reports:
        for number, other in enumerate(reports, 1):
            shared = min(one.ended, other.ended) - max(one.began, other.began)
            if other is not one and shared > 0.001 * whole:
                one.overlapped_with.append(number)


def _causes(mains: list[Call]) -> list[int | None]:
    """For each call the number of the one that had to be done before it could be made."""
    numbers = {
        id(side): number for number, call in enumerate(mains, 1) for side in (call, call.partner) if side is not None
    }
    return [
        # Where the scout has not come, each waits for the one before it.
        (number or None) if call.partner is None or call.has_diverged else numbers.get(id(call.partner.cause))
        for number, call in enumerate(mains)
    ]


def _find_waits(reports: list[CallReport], causes: list[int | None], reasons: list[Reason]) -> None:
    halted = next((reason for reason in reasons if reason.place is not None), None)
    for report, number in zip(reports, causes, strict=True):
        if number is None:
            continue
        other = reports[number - 1]
        report.waited_for = f"call {number}, {other.name} on {other.place}"
        if not report.is_early and halted is not None:
            report.waited_for += f"; in sequence since {_written(halted.place)}: {halted.text}"


def _critical_path(reports: list[CallReport], causes: list[int | None]) -> list[int]:
    if not reports:
        return []
    number: int | None = max(range(1, len(reports) + 1), key=lambda number: reports[number - 1].ended)
    path: list[int] = []
    while number is not None and number not in path:
        path.append(number)
        number = causes[number - 1]
    return path[::-1]
