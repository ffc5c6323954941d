"""All that is found out about one program, or about all programs of a project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .awaitability import module_findings
from .findings import LEVELS, Finding
from .hazards import hazard_findings
from .parts import Program, program_of, programs_of_app, programs_of_module
from .target import Target
from .waits import wait_findings

__all__ = ["Diagnosis", "examine"]


@dataclass(frozen=True)
class Diagnosis:
    """What targets consist of, and what was found.

    Attributes:
        targets: The programs.
        programs: Their modules, nodes, routes and functions, with where they run.
        findings: Errors first.
        ignored: How many more there are in lines with a comment that says to ignore them.
        observed: What the run with inputs showed, in sentences; empty without one.
    """

    targets: list[Target]
    programs: list[Program]
    findings: list[Finding]
    ignored: int = 0
    observed: list[str] = field(default_factory=list)


def examine(*targets: Target, inputs: Mapping[str, Any] | None = None) -> Diagnosis:
    """What `diagnose()` finds, with the programs that were looked at and what the run of the first target showed."""
    parts = [(target, _programs_of(target)) for target in targets]
    findings = [finding for target, programs in parts for finding in _read(target, programs)]
    observed: list[str] = []
    if inputs is not None:
        from .observed_run import observe

        seen = observe(*parts[0], inputs)
        findings += seen.findings
        observed = seen.sentences
    # One of a kind for each line.
    unique = {(each.kind, each.place.file, each.place.line): each for each in reversed(findings)}
    found = sorted(unique.values(), key=lambda f: (LEVELS.index(f.level), f.place.file, f.place.line, f.kind))
    kept = [finding for finding in found if not finding.is_ignored]
    programs = [program for _, programs in parts for program in programs]
    return Diagnosis(list(targets), programs, kept, len(found) - len(kept), observed)


def _programs_of(target: Target) -> list[Program]:
    """All programs of a target, outermost first."""
    if target.kind == "module":
        return list(programs_of_module(target.value))
    if target.kind == "app":
        return list(programs_of_app(target.value))
    if target.is_graph:
        from .graph_nodes import programs_of_graph

        return programs_of_graph(target.value)
    return [program_of(target.value, target.name)]


def _read(target: Target, programs: Sequence[Program]) -> Iterator[Finding]:
    yield from module_findings(target, programs)
    yield from wait_findings(programs)
    yield from hazard_findings(programs)
    if target.is_graph:
        from .checkpoints import checkpoint_findings

        yield from checkpoint_findings(target, programs)
