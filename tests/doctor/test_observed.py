"""What one run with inputs shows beyond what the source tells: each planted flaw at its line, and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import diagnose, seams, uninstall
from dspy_parallel.cli.doctor_report import report
from dspy_parallel.cli.target_spec import load_target
from dspy_parallel.display import plain
from dspy_parallel.doctor import overlap_gains
from dspy_parallel.doctor.diagnosis import Diagnosis, examine
from dspy_parallel.doctor.parts import Program
from dspy_parallel.doctor.target import as_target
from dspy_parallel.errors import TargetError
from dspy_parallel.overlap import OverlapReport

from .test_flaws import planted

OBSERVED = Path(__file__).parent / "observed"


@pytest.fixture
def lm(lm_server_factory: Callable[..., Any]) -> dspy.LM:
    lm = dspy.LM("openai/any", cache=False, **lm_server_factory(latency=0.1).lm_kwargs())
    with ThreadPoolExecutor(1) as threads:  # in the main thread, LiteLLM's sync calls make an event loop
        threads.submit(lm, "imports and first uses take no part of the run that is looked at").result()
    return lm


@pytest.fixture(autouse=True)
def whatever_it_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """By how much a program is faster is not looked at here: that depends on the machine, too."""
    monkeypatch.setattr(overlap_gains, "WORTH", 0.0)


def observed(name: str, lm: dspy.LM) -> Diagnosis:
    file = OBSERVED / f"{name}.py"
    if "langgraph" in file.read_text(encoding="utf-8"):
        pytest.importorskip("langgraph.graph")
    target = load_target(f"{file}:target")
    with dspy.context(lm=lm):
        diagnosis = examine(target, inputs=sys.modules[name].inputs)
    assert sorted((found.kind, found.place.line) for found in diagnosis.findings) == planted(file)
    return diagnosis


def test_sync_nodes_as_many_as_the_input_asks_for_are_more_than_there_are_threads(lm):
    (run,) = observed("wide_graph", lm).findings
    assert "ran 60 sync nodes" in run.message


def test_a_call_that_blocks_the_loop_and_cannot_be_read(lm):
    diagnosis = observed("hidden_in_node", lm)
    assert "the run that was watched" in diagnosis.findings[0].message
    assert any("The event loop stood still for " in sentence for sentence in diagnosis.observed)


def test_what_overlap_gains_and_the_line_at_which_it_ends(lm):
    diagnosis = observed("in_sequence", lm)
    overlap, _, in_sequence = diagnosis.findings
    assert overlap.message.startswith("Of its 4 predictor calls, ")
    assert in_sequence.message.startswith("Overlap ends here: ")
    assert diagnosis.observed[0].startswith("4 predictor calls of ")


def test_calls_of_functions_that_are_declared_pure_are_not_counted(lm):
    diagnosis = observed("declared", lm)
    assert "Of its 2 predictor calls, " in str([found.message for found in diagnosis.findings])
    assert diagnosis.observed[0].startswith("2 predictor calls of ")
    assert "; would run, bridged, on the event loop" in plain(report("", diagnosis, [], "text", 500))


def test_of_a_stock_graph_one_run_tells_which_nodes_block_and_what_overlap_gains(lm):
    diagnosis = observed("chain", lm)
    (finding,) = diagnosis.findings
    assert finding.message == "Of its 3 predictor calls, 3 need not wait for their turn."
    assert "s in LangGraph's steps, " in finding.cost
    assert finding.instead == "parallelize_graph(builder, overlap=True)."
    calls, blocking = diagnosis.observed[:2]
    assert calls.startswith("3 predictor calls of ")
    assert re.match(r"Each node blocks a thread of LangGraph's: first \d\.\d+ s, second \d\.\d+ s, third", blocking)


@pytest.mark.parametrize(("before", "found"), [(1.05, []), (1.2, ["overlap"])])
def test_a_program_that_gets_hardly_faster_is_left_alone(before, found, monkeypatch):
    monkeypatch.undo()
    report = OverlapReport([], 1, 1, 0, 0, before, overlapped_seconds=1.0, critical_path=[], reasons=[])
    program = Program("twice", "function", calling, "caller", subject=calling)
    assert [each.kind for each in overlap_gains.gains(overlap_gains.Ahead(report, []), program)] == found


class Twice(dspy.Module):
    def __init__(self):
        super().__init__()
        self.draft = dspy.Predict("text -> short")
        self.refine = dspy.Predict("text -> short")

    def forward(self, text):
        return self.refine(text=self.draft(text=text).short)


class ByHand(Twice):
    async def aforward(self, text):
        return await self.refine.acall(text=(await self.draft.acall(text=text)).short)


by_hand, twice = ByHand(), Twice()


async def awaiting(text):
    return await by_hand.acall(text=text)


def calling(text):
    return twice(text=text)


def graph():
    langgraph = pytest.importorskip("langgraph.graph")
    builder = langgraph.StateGraph(dict)
    builder.add_node("twice", lambda state: {"text": twice(text=state["text"]).short})
    return builder.add_edge("__start__", "twice")


@pytest.mark.parametrize("make", [lambda: Twice, lambda: by_hand, lambda: awaiting, lambda: calling, graph])
def test_the_critical_path_is_shown_whatever_the_target_is(make, lm):
    with dspy.context(lm=lm):
        shown = examine(as_target(make()), inputs={"text": "a"}).observed
    (path,) = [sentence for sentence in shown if sentence.startswith("Critical path: ")]
    (share,) = re.findall(r"s of LM calls \((\d+)%\)", path)
    assert int(share) > 0, "it goes by something else"
    # What a scout calls is part of the whole program, not of the module that holds the predictor and knows its name.
    assert "draft" in path or "Predict" in path


def test_a_run_leaves_what_was_patched_before_it_and_nothing_more():
    uninstall()
    call = vars(dspy.BaseLM)["__call__"]
    with dspy.context(lm=DummyLM([{"short": "a"}] * 4)):
        diagnose(Twice, inputs={"text": "a"})
        assert vars(dspy.BaseLM)["__call__"] is call
        with pytest.raises(TypeError):
            diagnose(Twice, inputs={"no_such_argument": "a"})
        assert vars(dspy.BaseLM)["__call__"] is call
        seams.install()
        diagnose(Twice, inputs={"text": "b"})
        assert vars(dspy.BaseLM)["__call__"] is not call
    uninstall()


async def streaming(text):
    yield twice(text=text)


def generating(text):
    yield twice(text=text)


@pytest.mark.parametrize("target", [streaming, generating])
def test_a_generator_is_read_and_not_run(target):
    with pytest.raises(TargetError, match=f"{target.__name__} is a generator function, .* Name a function that takes"):
        diagnose(target, inputs={"text": "a"})
    assert [found.kind for found in diagnose(target)] == (["blocks-loop"] if target is streaming else [])
