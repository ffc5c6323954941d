"""`dspy-parallel compare`: both ways run, outputs compared, what it writes and how it ends.

That its ratios are those of the benchmarks is for a quiet machine: `tests/bench/test_compare.py`.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Shown, run_main

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(__file__).parent / "programs"
AGENT = ROOT / "examples" / "level_agent"

# LiteLLM leaves the connections of an event loop that has ended to the garbage collector.
pytestmark = [
    pytest.mark.once,
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
needs_langgraph = pytest.mark.skipif(importlib.util.find_spec("langgraph") is None, reason="needs langgraph")


@pytest.fixture
def compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Any]:
    """What the command finds, with all replies at once."""

    def run(target: str, given: Any, latency: Any = 0.0, code: int = 0) -> dict[str, Any]:
        (tmp_path / "latency.json").write_text(json.dumps(latency))
        done = run_main(
            capsys,
            *("compare", f"{PROGRAMS}/{target}", "--input", json.dumps(given)),
            *("--replay", f"{tmp_path}/latency.json", "--json"),
        )
        assert done.code == code, done
        return json.loads(done.out)

    return run


@pytest.mark.parametrize(
    ("target", "requests"),
    [
        pytest.param("fan_out.py:builder", 30, marks=needs_langgraph),
        pytest.param("fan_out.py:async_nodes", 30, marks=needs_langgraph),
        ("documents.py:Summaries", 9),
        ("documents.py:Parts", 1),
        ("documents.py:awaiting", 2),
    ],
)
def test_the_same_requests_and_outputs(compared, target, requests):
    found = compared(target, [{"text": "a"}, {"text": "b"}])
    assert found["same"]
    assert found["before"]["requests"] == found["after"]["requests"] == 2 * requests


def test_different_outputs_are_shown_and_end_with_one(compared):
    found = compared("documents.py:telling", {"text": "a"}, code=1)
    assert not found["same"]
    assert found["differences"] == [{"path": "[0]['bridged']", "before": "False", "after": "True"}]


def test_what_two_runs_as_they_are_differ_in_is_not_counted(compared):
    found = compared("documents.py:counting", {"text": "a"})
    assert found["same"]
    assert [difference["path"] for difference in found["not_counted"]] == ["[0]['number']"]


def test_an_error_that_both_ways_raise_ends_with_three(compared):
    assert compared("documents.py:failing", {"text": "a"}, code=3)["same"]


def test_where_overlap_stopped_is_said_and_the_path_has_whole_names(capsys, tmp_path):
    page = tmp_path / "compared.html"
    done = run_main(
        capsys,
        *("compare", f"{PROGRAMS}/documents.py:Planned", "--input", "text=a", "--serve", "--html", str(page)),
    )
    assert re.search(r"<li>tests/compare/programs/documents\.py:\d+: .*getpid", page.read_text())
    assert "critical path" in done.out
    # What takes a hundredth of the time is on the path, too: on a busy machine, Python between the calls.
    assert re.search(r"\bplan → (\w+ → )*time\.extractor", done.out)
    assert re.search(r"overlap stopped at tests/compare/programs/documents\.py:\d+: .*getpid", done.out)


def test_a_page_is_written_for_its_owner_alone(capsys, tmp_path):
    page = tmp_path / "compared.html"
    done = run_main(
        capsys,
        *("compare", f"{PROGRAMS}/documents.py:Summaries", "--input", "text=a", "--serve", "--html", str(page)),
    )
    assert done.code == 0, done
    assert page.read_text().count("<iframe") == 2
    assert page.stat().st_mode & 0o777 == 0o600


def test_a_factory_and_a_recorded_timeline(capsys, tmp_path):
    from dspy_parallel.timeline import Span, Timeline

    spans = [Span(0, None, "lm", "openai/loopback", 0.0, 0.25), Span(1, None, "lm", "openai/loopback", 0.3, 0.31)]
    Timeline.of(spans).save(tmp_path / "recorded.json")
    (tmp_path / "input.json").write_text('{"text": "a"}')
    done = run_main(
        capsys,
        *("compare", f"{PROGRAMS}/documents.py:make()", "--input", f"{tmp_path}/input.json"),
        *("--replay", f"{tmp_path}/recorded.json", "--json"),
    )
    assert done.code == 0, done
    assert json.loads(done.out)["before"]["seconds"] >= 4 * 0.25 + 4 * 0.01


def told(done: Shown) -> str:
    assert done.code == 2
    assert "Traceback" not in done.err
    return done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["documents.py:nothing", "--input", "text=a"], "has no object 'nothing'"),
        (["documents.py:make", "--input", "nowhere.json"], "cannot be read"),
        (["documents.py:make", "--input", "[1]"], "neither an object of keyword arguments"),
        (["documents.py:make", "--input", "{"], "is not JSON"),
        (["documents.py:make", "--input", "a=1", "b"], "written as name=value"),
        (["documents.py:counter", "--input", "text=a"], "which is no program"),
        (["documents.py:make()", "--input", "text=a", "--replay", "{path}"], "are not seconds"),
        (["documents.py:make()", "--input", "text=a", "--html", "{path}/x.html"], "cannot be written"),
    ],
)
def test_what_cannot_be_compared_is_said_and_ends_with_two(capsys, arguments, says, tmp_path):
    (tmp_path / "file.json").write_text('{"text": "a"}')
    target, *rest = [argument.replace("{path}", str(tmp_path / "file.json")) for argument in arguments]
    assert says in told(run_main(capsys, "compare", f"{PROGRAMS}/{target}", *rest))


def test_input_from_stdin(capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO('{"text": "\\u001b[2J"}'))
    assert "raised ValueError" in run_main(capsys, "compare", f"{PROGRAMS}/documents.py:failing", "--input", "-").err
