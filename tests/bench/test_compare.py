"""`dspy-parallel compare` gives the ratios that the benchmarks give, of the same programs, in one run.

Run alone on the machine: `tox -e bench`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langgraph.graph")

from benchmarks import langgraph_fanout, machine, overlap
from benchmarks.langgraph_fanout import OURS, STOCK, against
from benchmarks.overlap_programs import PROGRAMS
from benchmarks.workload import engines, make_lm, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
AGENT = ROOT / "examples" / "level_agent"
LATENCY = 0.5
WIDTH = 30


def graph() -> Any:
    """The fan-out of the benchmark, for the command."""
    return langgraph_fanout._fan_out(langgraph_fanout.ask)


def command(*arguments: str) -> dict[str, Any]:
    """What a command of ours prints as JSON."""
    line = [sys.executable, "-m", "dspy_parallel", *arguments, "--json"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def compared(target: str, given: Any, tmp_path: Path) -> dict[str, Any]:
    """The command, with the benchmark's latency."""
    (tmp_path / "input.json").write_text(json.dumps(given))
    (tmp_path / "latency.json").write_text(str(LATENCY))
    return command(
        "compare", target, "--input", str(tmp_path / "input.json"), "--replay", str(tmp_path / "latency.json")
    )


@pytest.fixture
def server() -> Any:
    running = start_server(latency=LATENCY)
    machine.pin(running.pid)
    yield running
    running.stop()


def test_the_level_agent() -> None:
    """The demo compares the same function."""
    demo = command("demo")["one function"]
    found = command(
        *("compare", f"{AGENT}/phase.py:extract", "--input", f"{AGENT}/question.json"),
        *("--replay", f"{AGENT}/latencies.json"),
    )
    print(f"\nlevel agent: {found['ratio']:.2f}, the demo {demo['ratio']:.2f}", end="")
    assert found["before"]["requests"] == found["after"]["requests"] == 3
    assert found["ratio"] == pytest.approx(demo["ratio"], rel=0.1)


async def test_a_fan_out(server: Any, tmp_path: Path) -> None:
    turns = await langgraph_fanout.fan_out(make_lm(server, engines()[0]), WIDTH, 1)
    own = against(turns, STOCK["invoke"], OURS["ainvoke"], 0).median
    found = compared(f"{__file__}:graph()", {"texts": [f"text {number}" for number in range(WIDTH)]}, tmp_path)
    print(f"\n{WIDTH}-way fan-out: {found['ratio']:.2f}, the benchmark {own:.2f}", end="")
    assert found["before"]["requests"] == found["after"]["requests"] == WIDTH
    assert found["ratio"] == pytest.approx(own, rel=0.1)


async def test_an_overlapping_program(server: Any, tmp_path: Path) -> None:
    program = next(program for program in PROGRAMS if program.module.__name__ == "MapReduce")
    own = (await overlap.measure(program, server, 1, LATENCY)).speedup
    found = compared(f"{program.module.__module__}:MapReduce", dict(program.inputs), tmp_path)
    print(f"\n{program}: {found['ratio']:.2f}, the benchmark {own:.2f}", end="")
    assert found["before"]["requests"] == found["after"]["requests"] == program.calls
    assert found["ratio"] == pytest.approx(own, rel=0.1)
