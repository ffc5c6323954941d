"""How long the import takes, and each command. `tests/test_imports.py` has what an import brings in."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.packaging.test_six_steps import COMPARE, DOCTOR, RUN, project, provider, run

__all__ = ["project"]  # a fixture

pytestmark = pytest.mark.bench

# CPU time, and the median of several processes: the first may have to compile.
_MEASURE = """
import dspy, time
begin = time.process_time()
from dspy_parallel import async_module, install, run
print(time.process_time() - begin)
"""


def test_importing_adds_at_most_50_milliseconds() -> None:
    command = [sys.executable, "-c", _MEASURE]
    added = [float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(5)]
    print(*(f"{seconds * 1000:.0f} ms" for seconds in added))
    assert statistics.median(added) <= 0.050


def seconds_of(command: str, project: Path) -> float:
    """The median of three times, with a provider that takes 0.5 s for each answer."""
    took = []
    with provider(latency=0.5) as environment:
        for _ in range(3):
            began = time.perf_counter()
            done = run(sys.executable, command, project, **environment)
            took.append(time.perf_counter() - began)
            assert done.returncode in (0, 1), done.stderr
    return statistics.median(took)


@pytest.mark.timeout(300)
def test_a_command_takes_at_most_5_seconds_and_the_program_s_own_time(project: Path) -> None:
    """Its own time are its imports, LiteLLM's too (DSPy's cache answers from the second time on), and what the LMs of
    `--serve` take: four calls of 0.1 s for doctor, twice four of 0.5 s for compare.
    """
    program = seconds_of("python agent.py Why?", project)
    own = {
        RUN: program,
        DOCTOR: program + 4 * 0.1,
        "dspy-parallel doctor agent.py": 0.0,
        COMPARE: program + 2 * 4 * 0.5,
        "dspy-parallel --help": 0.0,
    }
    added = {command: seconds_of(command, project) - seconds for command, seconds in own.items()}
    print(*(f"{seconds:.2f} s  {command}" for command, seconds in added.items()), sep="\n")
    assert max(added.values()) <= 5
