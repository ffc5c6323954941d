"""Programs from the literature and from DSPy's tutorials, sequential as their authors' readers would write them.

Beside them, in `everyday`, those that people write at work.

Each has an async twin written by hand, which is as fast as the program can be: the measure of `overlap=True`.
"""

from __future__ import annotations

from benchmarks.overlap_programs import delegation, deliberation, documents, extraction, planning, retrieval
from benchmarks.overlap_programs.everyday import EVERYDAY
from benchmarks.overlap_programs.program import Program

__all__ = ["CORPORA", "EVERYDAY", "PROGRAMS", "Program"]

PROGRAMS: list[Program] = [
    program
    for family in (documents, deliberation, retrieval, extraction, planning, delegation)
    for program in family.PROGRAMS
]

CORPORA = {"literature": PROGRAMS, "everyday": EVERYDAY}
