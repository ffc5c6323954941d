"""Programs as people write them: loggers, validators, retries, attributes, files, retrievers over HTTP, agents.

Nothing in them was chosen by what the scout follows. Those that retrieve need `searching()` and a ColBERTv2 as `rm`.
"""

from __future__ import annotations

from benchmarks.overlap_programs.everyday import agents, answers, articles, attempts, grades, plans, records
from benchmarks.overlap_programs.program import Program

__all__ = ["EVERYDAY"]

EVERYDAY: list[Program] = [
    program for family in (records, answers, grades, plans, attempts, articles, agents) for program in family.PROGRAMS
]
