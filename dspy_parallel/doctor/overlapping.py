"""What overlap gains in a sequential program, and what stops it: from one run with a scout ahead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..overlap.entrance import Overlap
from ..overlap.report import OverlapReport, report_of
from ..overlap.running import run_ahead
from ..overlap.scout import Reason
from .findings import Finding, Place
from .programs import Program

__all__ = ["Ahead", "gains", "run_with_scout", "told"]

WORTH = 1.1
"""A program that gets faster by less is left alone."""


@dataclass(frozen=True)
class Ahead:
    """A run with a scout ahead.

    Attributes:
        report: As `explain()` gives it.
        reasons: Where the scout had to stop, with whole paths.
    """

    report: OverlapReport
    reasons: list[Reason]


async def run_with_scout(program: Any, inputs: Mapping[str, Any], known_as: Any) -> Ahead:
    """Run a sync program as `explain()` does, but on the running loop, which is watched.

    Raises:
        Exception: Whatever the program raises.
    """
    seen: list[Any] = []

    def watch(session: Any, scout: Any) -> None:
        session.notes_places = True
        seen.append((session, scout))

    await run_ahead(program, (), dict(inputs), "auto", known_as, Overlap(), watch)
    session, scout = seen[0]
    return Ahead(report_of(session, scout, program, None), [r for r in scout.reasons if r.place is not None])


def told(ahead: Ahead) -> list[str]:
    """The report as sentences."""
    report = ahead.report
    count = len(report.calls)
    if not count:
        return []
    return [
        f"{count} predictor call{'s' if count > 1 else ''} of {report.sequential_seconds:.2f} s in all; with a scout "
        f"ahead (overlap=True) the run took {report.overlapped_seconds:.2f} s."
    ]


def gains(ahead: Ahead, program: Program) -> Iterator[Finding]:
    """What `overlap=True` would gain, and the lines that keep it from gaining more."""
    report = ahead.report
    ratio = report.sequential_seconds / report.overlapped_seconds if report.overlapped_seconds else 1.0
    if report.joined and ratio >= WORTH and not _overlaps(program):
        how = f"await run({program.name}, ..., overlap=True), or @overlapped above it."
        yield Finding(
            "overlap",
            "note",
            program.place,
            program.name,
            f"Of its {len(report.calls)} predictor calls, {report.joined} need not wait for their turn.",
            f"{report.sequential_seconds:.2f} s one after the other, {report.overlapped_seconds:.2f} s overlapped: "
            f"{ratio:.1f} times as fast.",
            how if program.kind == "function" else "@async_module(overlap=True) above the class.",
        )
    waiting = sum("in sequence since" in call.waited_for for call in report.calls)
    for reason in ahead.reasons if waiting else ():
        assert reason.place is not None
        yield Finding(
            "in-sequence",
            "note",
            Place(*reason.place),
            program.name,
            f"Overlap ends here: {reason.text}.",
            f"{waiting} predictor call{'s' if waiting > 1 else ''} after it waited for their turn.",
            "if it is a function of yours without effects, @pure above it; or move it behind the calls that do not "
            "need it.",
        )


def _overlaps(program: Program) -> bool:
    function = getattr(type(program.subject), "forward", None) if program.kind == "module" else program.subject
    if isinstance(program.subject, type):
        function = getattr(program.subject, "forward", None)
    return hasattr(function, "__overlap_original__")
