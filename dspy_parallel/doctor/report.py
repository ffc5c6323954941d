"""A diagnosis as text for people and as data for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from .diagnosis import Diagnosis
from .findings import LEVELS, Finding
from .programs import Program

__all__ = ["as_data", "text"]

_WHERE = {
    "loop": "event loop",
    "bridge": "the bridge",
    "threads": "threads",
    "caller": "caller's thread",
}


def text(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    """Lines: what runs where, what the run showed, and the findings."""
    yield f"{diagnosis.target.name}: {_kind(diagnosis)}"
    yield ""
    yield from _programs(diagnosis.programs, width)
    if diagnosis.observed:
        yield ""
        for sentence in diagnosis.observed:
            yield from textwrap.wrap(sentence, width)
    for finding in diagnosis.findings:
        yield ""
        yield from _finding(finding, width)
    yield ""
    yield _summary(diagnosis.findings)


def _kind(diagnosis: Diagnosis) -> str:
    kinds = {
        "module": "a dspy.Module",
        "builder": "a StateGraph",
        "graph": "a compiled graph",
        "function": "a function",
    }
    return kinds[diagnosis.target.kind]


def _programs(programs: Sequence[Program], width: int) -> Iterator[str]:
    """One line for each; nodes that share a function share a line."""
    rows: dict[Any, list[Program]] = {}
    for program in programs:
        rows.setdefault((program.place, program.kind, program.where, program.engine), []).append(program)
    named = [(_names(same), same[0]) for same in rows.values()]
    longest = min(max((len(names) for names, _ in named), default=0), 32)
    for names, program in named:
        where = _WHERE[program.where] + (f", {program.engine}" if program.engine else "")
        label = f"  {program.kind:<9}{names:<{longest}}  {where:<18}"
        if len(label) + len(program.why) <= width:
            yield f"{label}{program.why}".rstrip()
        else:
            yield label.rstrip()
            yield from textwrap.wrap(program.why, width, initial_indent=" " * 13, subsequent_indent=" " * 13)


def _names(same: Sequence[Program]) -> str:
    return same[0].name if len(same) == 1 else f"{same[0].name} … {same[-1].name} ({len(same)})"


def _finding(finding: Finding, width: int) -> Iterator[str]:
    yield f"{finding.level}: {finding.kind}  {finding.place.short}  in {finding.place.function or finding.program}"
    if finding.through:
        yield f"    reached through {' → '.join(place.short for place in finding.through)}"
    for label, words in (("", finding.message), ("costs: ", finding.cost), ("write: ", finding.instead)):
        yield from textwrap.wrap(label + words, width, initial_indent="    ", subsequent_indent="      ")


def _summary(findings: Sequence[Finding]) -> str:
    if not findings:
        return "Nothing found."
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    return ", ".join(f"{count} {level}{'s' if count > 1 else ''}" for level, count in counts.items() if count) + "."


def as_data(diagnosis: Diagnosis) -> dict[str, Any]:
    """Plain data."""
    return {
        "target": diagnosis.target.name,
        "kind": diagnosis.target.kind,
        "programs": [
            {
                "name": program.name,
                "kind": program.kind,
                "where": program.where,
                "engine": program.engine or None,
                "why": program.why,
                "file": program.place.file,
                "line": program.place.line,
            }
            for program in diagnosis.programs
        ],
        "observed": diagnosis.observed,
        "findings": [finding.as_data() for finding in diagnosis.findings],
    }
