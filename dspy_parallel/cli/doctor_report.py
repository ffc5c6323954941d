"""A diagnosis: as text for people, as data, for GitHub's annotations, and as SARIF."""

from __future__ import annotations

import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ..analysis.places import Place
from ..display import Line
from ..doctor.catalogue import KINDS
from ..doctor.diagnosis import Diagnosis
from ..doctor.findings import LEVELS, Finding
from ..doctor.parts import Program
from ..escapes import escaped

__all__ = ["report"]

_WHERE = {"loop": "event loop", "bridge": "the bridge", "threads": "threads", "caller": "caller's thread"}
_KINDS = {
    "module": "a dspy.Module",
    "builder": "a StateGraph",
    "graph": "a compiled graph",
    "app": "an app",
    "function": "a function",
}
_ANNOTATIONS = {"error": "error", "warning": "warning", "note": "notice"}


def report(name: str, diagnosis: Diagnosis, skipped: Sequence[str], form: str, width: int) -> Iterator[Line]:
    """Lines of a report, to be written.

    Args:
        name: What was looked at, as it was named.
        diagnosis: What was found.
        skipped: Files that could not be imported, and why.
        form: `"text"`, `"json"`, `"github"` or `"sarif"`.
        width: Columns, for text.
    """
    if form == "json":
        yield [(json.dumps(_as_data(name, diagnosis, skipped), indent=2), "")]
    elif form == "sarif":
        yield [(json.dumps(_as_sarif(diagnosis), indent=2), "")]
    elif form == "github":
        yield from ([(_annotation(finding), "")] for finding in diagnosis.findings)
    else:
        yield from _text(name, diagnosis, skipped, width)


def _text(name: str, diagnosis: Diagnosis, skipped: Sequence[str], width: int) -> Iterator[Line]:
    """What runs where, what the run showed, and the findings."""
    targets = diagnosis.targets
    kinds = Counter(_KINDS[target.kind].partition(" ")[2] for target in targets)
    many = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items()) or "no program"
    yield [(f"{name}: {_KINDS[targets[0].kind] if len(targets) == 1 else many}", "bold")]
    yield []
    yield from _programs(diagnosis.programs, width)
    if diagnosis.observed:
        yield []
        for sentence in diagnosis.observed:
            yield from _wrapped(sentence, width)
    for finding in diagnosis.findings:
        yield []
        yield from _finding(finding, width)
    yield []
    for sentence in skipped:
        yield from _wrapped(f"Not looked at: {sentence}", width, "dim", 0, 2)
    yield [(_summary(diagnosis), "bold" if diagnosis.findings else "good")]


def _wrapped(text: str, width: int, style: str = "", first: int = 0, rest: int = 0) -> Iterator[Line]:
    lines = textwrap.wrap(escaped(text), width, initial_indent=" " * first, subsequent_indent=" " * rest)
    yield from ([(line, style)] for line in lines)


def _programs(programs: Sequence[Program], width: int) -> Iterator[Line]:
    """One line for each; nodes that share a function share a line."""
    rows: dict[Any, list[Program]] = {}
    for program in programs:
        rows.setdefault((program.place, program.kind, program.where, program.engine), []).append(program)
    named = [(escaped(_names(same)), same[0]) for same in rows.values()]
    longest = min(max((len(names) for names, _ in named), default=0), 32)
    for names, program in named:
        where = _WHERE[program.where] + (f", {program.engine}" if program.engine else "")
        label: Line = [(f"  {program.kind:<9}", program.kind), (f"{names:<{longest}}  ", ""), (f"{where:<18}", "dim")]
        why = _why(program)
        if sum(len(text) for text, _ in label) + len(why) <= width:
            yield [*label, (why, "")]
        else:
            yield label
            yield from _wrapped(why, width, "", 13, 13)


def _why(program: Program) -> str:
    placement = program.placement
    if placement is None:
        return program.why
    verb = "runs" if program.where == "bridge" else "would run, bridged,"
    if placement.engine == "loop":
        return f"{program.why}; {verb} on the event loop"
    place = Place(placement.filename, placement.line).short
    reason = placement.reason.removesuffix(f" at {placement.filename}:{placement.line}")
    return f"{program.why}; {verb} in a thread of its own: {reason}" + (f" at {place}" if placement.filename else "")


def _names(same: Sequence[Program]) -> str:
    names = " … ".join(dict.fromkeys([same[0].name, same[-1].name]))
    return names if len(same) == 1 else f"{names} ({len(same)})"


def _finding(finding: Finding, width: int) -> Iterator[Line]:
    yield [*finding.head(), (f"in {finding.place.function or finding.program}", "")]
    if finding.through:
        yield [(f"    reached through {' → '.join(place.short for place in finding.through)}", "dim")]
    said = ("", finding.message, ""), ("costs: ", finding.cost, "dim"), ("write: ", finding.instead, "good")
    for label, words, style in said:
        yield from _wrapped(label + words, width, style, 4, 6)


def _summary(diagnosis: Diagnosis) -> str:
    counts = Counter(finding.level for finding in diagnosis.findings)
    said = [f"{counts[level]} {level}{'s' if counts[level] > 1 else ''}" for level in LEVELS if counts[level]]
    said += [f"{diagnosis.ignored} ignored"] if diagnosis.ignored else []
    files = len({finding.place.file for finding in diagnosis.findings})
    where = f" in {files} files" if files > 1 else ""
    return f"{', '.join(said)}{where}." if said else "Nothing found."


def _as_data(name: str, diagnosis: Diagnosis, skipped: Sequence[str]) -> dict[str, Any]:
    targets = diagnosis.targets
    return {
        "target": name,
        "kind": targets[0].kind if len(targets) == 1 else "project",
        "programs": [
            {
                "name": program.name,
                "kind": program.kind,
                "where": program.where,
                "engine": program.engine or None,
                "auto": program.placement and program.placement.engine,
                "why": _why(program),
                "file": program.place.file,
                "line": program.place.line,
            }
            for program in diagnosis.programs
        ],
        "observed": diagnosis.observed,
        "ignored": diagnosis.ignored,
        "skipped": list(skipped),
        "findings": [finding.as_data() for finding in diagnosis.findings],
    }


def _annotation(finding: Finding) -> str:
    """A command of GitHub's for the log of an action: it shows the finding at its line."""
    text = f"{finding.message} Costs: {finding.cost} Write: {finding.instead}"
    text, file = (each.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A") for each in (text, _uri(finding)))
    file = file.replace(":", "%3A").replace(",", "%2C")
    return f"::{_ANNOTATIONS[finding.level]} file={file},line={finding.place.line},title={finding.kind}::{text}"


def _uri(finding: Finding) -> str:
    return finding.place.short.rpartition(":")[0].replace(os.sep, "/")


def _as_sarif(diagnosis: Diagnosis) -> dict[str, Any]:
    """The Static Analysis Results Interchange Format, 2.1.0."""
    kinds = sorted({finding.kind for finding in diagnosis.findings})
    rules = [{"id": kind, "defaultConfiguration": {"level": KINDS[kind].level}} for kind in kinds]
    results = [
        {
            "ruleId": finding.kind,
            "ruleIndex": kinds.index(finding.kind),
            "level": finding.level,
            "message": {"text": f"{finding.message} Costs: {finding.cost} Write: {finding.instead}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": _uri(finding)},
                        "region": {"startLine": finding.place.line},
                    }
                }
            ],
        }
        for finding in diagnosis.findings
    ]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "dspy-parallel", "rules": rules}}, "results": results}],
    }
