"""The demo's graphs: three ways to write the nodes, what overlaps in each, and what is shown of it."""

from __future__ import annotations

import builtins
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest

from dspy_parallel import cli
from dspy_parallel.demo.graph import GraphRuns, load_graphs, run_graphs, threads_of_langgraph
from dspy_parallel.demo.graph_report import graph_lines
from dspy_parallel.demo.measure import Call, Run, level_agent
from dspy_parallel.testing import LMServer

# LiteLLM leaves the connections of an event loop that has ended to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RECORDING = level_agent("recorded").load()
A, B, C = "(a) sync nodes", "(b) async nodes that call sync DSPy", "(c) async nodes, parallelize_graph"


@pytest.fixture(scope="module")
def runs() -> Iterator[GraphRuns]:
    """All graphs, once. In a thread: in the main thread, LiteLLM's sync calls make an event loop and leave it open."""
    models = level_agent("models")
    with LMServer(replies=RECORDING.rules(0.6)) as server, ThreadPoolExecutor(1) as threads:
        lms = [
            models.litellm_lm(f"openai/{name}", **server.lm_kwargs())
            for name in (models.QWEN3_235B, models.GPT_OSS_120B)
        ]
        yield threads.submit(run_graphs, load_graphs(), RECORDING.questions, lms, lambda what: nullcontext()).result(
            100
        )


def at_once(run: Run) -> int:
    """How many calls were in flight at the same time, at most."""
    return max(sum(other.start <= call.start < other.end for other in run.calls) for call in run.calls)


def test_what_overlaps(runs: GraphRuns) -> None:
    """(a) three nodes, but no more than there are threads; (b) nothing; (c) all."""
    assert [(name, at_once(run)) for name, run in runs.three.items()] == [(A, 3), (B, 1), (C, 3)]
    threads = threads_of_langgraph()
    assert [at_once(run) for run in runs.wide.values()] == [threads, 2 * threads]
    assert runs.same
    assert runs.three[A].extraction.query.search_text == "onboarding"


def text(runs: GraphRuns) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in graph_lines(runs, 100, unicode=False))


def test_what_is_shown(runs: GraphRuns) -> None:
    shown = text(runs)
    for title in (A, B, C, "(c) sync nodes, parallelize_graph"):
        assert title in shown
    threads = threads_of_langgraph()
    assert f"LangGraph has {threads} threads on this machine" in shown
    assert f"max_concurrency={2 * threads}" in shown
    assert shown.count("\n  time ") == 3 + 2 * 8, "of the wide ones, eight calls are drawn"
    assert "differ" not in shown


def test_answers_that_differ_are_said() -> None:
    runs = GraphRuns({name: Run(1.0, [Call("time", "m", 0.0, 1.0)], name) for name in (A, C)}, {})
    assert not runs.same
    assert "The answers of the graphs differ." in text(runs)
    assert "at once" not in text(runs), "the wide graphs were not run"


def demo(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with ThreadPoolExecutor(1) as threads:
        code = threads.submit(cli.main, ["demo", "--questions", "1", "--scale", "0.02", *arguments]).result(110)
    return code, capsys.readouterr().out


def test_in_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = demo(capsys, "--json")
    graph = json.loads(out)["graph"]
    assert (code, graph["same"], list(graph["three_nodes"])) == (0, True, [A, B, C])
    code, out = demo(capsys, "--json", "--no-graph")
    assert (code, json.loads(out)["graph"]) == (0, None)


def test_without_langgraph_the_demo_says_so_and_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "langgraph":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.delitem(sys.modules, "dspy_parallel.demo.level_agent_graph.graphs", raising=False)
    code, out = demo(capsys)
    assert code == 0
    assert "LangGraph is not installed (pip install 'dspy-parallel[langgraph]'): its graph is left out." in out
    assert "All answers are the same." in out
