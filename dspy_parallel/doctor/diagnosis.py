"""All that is found out about one target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..targets import Target
from .awaitability import module_findings
from .blocking import blocking_findings
from .connections import connection_findings
from .fan_out import fan_out_findings
from .findings import LEVELS, Finding
from .holding import holding_findings
from .programs import Program, programs_of

__all__ = ["Diagnosis", "examine"]

_ELSEWHERE = ("thread-cap", "lock-across-call")
"""Kinds of which a run sees another line than is to be changed."""


@dataclass(frozen=True)
class Diagnosis:
    """What a target consists of, and what was found.

    Attributes:
        target: The program.
        programs: Its modules, nodes and functions, with where they run.
        findings: Errors first.
        observed: What the run with inputs showed, in sentences; empty without one.
    """

    target: Target
    programs: list[Program]
    findings: list[Finding]
    observed: list[str] = field(default_factory=list)


def examine(target: Target, *, inputs: Mapping[str, Any] | None = None, in_flight: int = 1) -> Diagnosis:
    """What `diagnose()` finds, with the programs that were looked at and what the run showed."""
    programs = programs_of(target)
    findings = list(_read(target, programs))
    observed: list[str] = []
    peak = 1
    if inputs is not None:
        from .observing import observe

        seen = observe(target, programs, inputs)
        known = {(finding.kind, finding.program) for finding in findings if finding.is_problem}
        findings += [new for new in seen.findings if new.kind not in _ELSEWHERE or (new.kind, new.program) not in known]
        observed, peak = seen.sentences, seen.peak
    findings += connection_findings(target, programs, in_flight, peak)
    return Diagnosis(target, programs, _sorted(findings), observed)


def _read(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    yield from module_findings(target, programs)
    yield from blocking_findings(programs)
    yield from holding_findings(programs)
    yield from fan_out_findings(target, programs)
    if target.is_graph:
        from .checkpoints import checkpoint_findings

        yield from checkpoint_findings(target, programs)


def _sorted(findings: Sequence[Finding]) -> list[Finding]:
    """One finding of a kind for each line, errors first."""
    unique: dict[tuple[str, str, int], Finding] = {}
    for finding in findings:
        unique.setdefault((finding.kind, finding.place.file, finding.place.line), finding)
    return sorted(unique.values(), key=lambda f: (LEVELS.index(f.level), f.place.file, f.place.line, f.kind))
