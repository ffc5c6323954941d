"""`dspy-parallel compare`: both ways measured, outputs compared, what it writes and how it ends.

That its ratios are those of the benchmarks is for a quiet machine: `tests/bench/test_compare.py`.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspy_parallel.doctor.caps import default_threads

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
AGENT = ROOT / "examples" / "level_agent"

needs_langgraph = pytest.mark.skipif(importlib.util.find_spec("langgraph") is None, reason="needs langgraph")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dspy_parallel.cli", "compare", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)


def compared(target: str, given: Any, latency: Any, tmp_path: Path, code: int = 0) -> dict[str, Any]:
    (tmp_path / "input.json").write_text(json.dumps(given))
    (tmp_path / "latency.json").write_text(json.dumps(latency))
    done = run(target, "--input", f"{tmp_path}/input.json", "--replay", f"{tmp_path}/latency.json", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout)


@needs_langgraph
def test_a_fan_out_of_thirty_sync_nodes_is_faster_by_the_turns_that_its_threads_take(tmp_path):
    latency = 0.5
    found = compared(f"{PROGRAMS}/fan_out.py:builder", {"text": "a"}, latency, tmp_path)
    turns = -(-30 // default_threads())
    assert found["same"]
    assert found["before"]["seconds"] >= turns * latency
    assert found["before"]["figures"]["peak_in_flight"] == default_threads()
    assert found["after"]["figures"]["peak_in_flight"] == 30
    assert found["ratio"] > 1.2
    assert found["before"]["requests"] == found["after"]["requests"] == 30


@needs_langgraph
def test_async_nodes_that_block_run_one_after_the_other_and_then_at_once(tmp_path):
    found = compared(f"{PROGRAMS}/fan_out.py:async_nodes", {"text": "a"}, 0.25, tmp_path)
    assert found["same"]
    assert found["before"]["figures"]["peak_in_flight"] == 1
    assert found["after"]["figures"]["peak_in_flight"] == 30
    assert found["ratio"] > 1.2


def test_an_overlapping_program_takes_as_long_as_its_longest_chain(tmp_path):
    latency = 0.5
    found = compared(f"{PROGRAMS}/documents.py:Summaries", {"text": "a"}, latency, tmp_path)
    assert found["same"]
    assert found["before"]["seconds"] >= 9 * latency
    assert 2 * latency <= found["after"]["seconds"]
    assert found["ratio"] > 1.2
    assert found["before"]["requests"] == found["after"]["requests"] == 9


def test_the_level_agent_gives_the_ratio_of_the_recorded_latencies(tmp_path):
    page = tmp_path / "compared.html"
    done = run(
        f"{AGENT}/phase.py:extract",
        *("--input", f"{AGENT}/question.json", "--replay", f"{AGENT}/latencies.json", "--html", str(page)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *_, last = done.stdout.splitlines()
    ratio = float(last.partition(" parallelised: ")[2].partition(" ")[0])
    assert ratio > 1.2, last  # (1.255 + 0.726 + 2.278) / 2.278 = 1.87
    assert "Same outputs." in last
    assert "LM requests: 3 / 3." in last
    assert done.stdout.count("critical path") == 2
    assert page.read_text().count("<iframe") == 2


def test_several_inputs_at_once(tmp_path):
    given = [{"text": f"number {n}"} for n in range(6)]
    found = compared(f"{PROGRAMS}/documents.py:Parts", given, 0.3, tmp_path)
    assert found["same"]
    assert found["after"]["figures"]["peak_in_flight"] >= 6
    assert found["ratio"] > 1.2


def test_an_async_function_that_blocks(tmp_path):
    found = compared(f"{PROGRAMS}/documents.py:awaiting", [{"text": "a"}, {"text": "b"}], 0.3, tmp_path)
    assert found["same"]
    assert found["ratio"] > 1.2


def test_different_outputs_are_shown_and_end_with_one(tmp_path):
    found = compared(f"{PROGRAMS}/documents.py:counting", {"text": "a"}, 0.05, tmp_path, code=1)
    assert not found["same"]
    assert found["differences"] == [{"path": "[0]['number']", "before": "0", "after": "1"}]


def test_an_error_that_both_ways_raise_ends_with_three(tmp_path):
    found = compared(f"{PROGRAMS}/documents.py:failing", {"text": "a"}, 0.05, tmp_path, code=3)
    assert found["same"]


def test_a_factory_and_a_recorded_timeline(tmp_path):
    from dspy_parallel.timeline import Span, Timeline

    spans = [Span(0, None, "lm", "openai/loopback", 0.0, 0.25), Span(1, None, "lm", "openai/loopback", 0.3, 0.55)]
    Timeline.of(spans).save(tmp_path / "recorded.json")
    (tmp_path / "input.json").write_text('{"text": "a"}')
    done = run(
        f"{PROGRAMS}/documents.py:make()",
        *("--input", f"{tmp_path}/input.json", "--replay", f"{tmp_path}/recorded.json", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["before"]["seconds"] >= 9 * 0.25


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["documents.py:nothing", "--input", "{input}"], "has no object 'nothing'"),
        (["documents.py:make", "--input", "{nowhere}"], "cannot be read"),
        (["documents.py:counter", "--input", "{input}"], "which is no program"),
        (["documents.py:make()", "--input", "{input}", "--replay", "{input}"], "are not seconds"),
    ],
)
def test_what_cannot_be_compared_is_said_and_ends_with_two(arguments, says, tmp_path):
    (tmp_path / "input.json").write_text('{"text": "a"}')
    target, *rest = [a.format(input=tmp_path / "input.json", nowhere=tmp_path / "nowhere.json") for a in arguments]
    done = run(f"{PROGRAMS}/{target}", *rest)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
