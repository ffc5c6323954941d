"""Both ways of a program, in this process: with which connections, what can be compared, how many requests."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import TargetError, async_module, overlapped, seams
from dspy_parallel.cli import main
from dspy_parallel.cli.target_spec import load_target
from dspy_parallel.compare.comparison_report import summary
from dspy_parallel.compare.two_runs import Comparison, Run, compare
from dspy_parallel.doctor.target import as_target
from dspy_parallel.seams.connections import STOCK, max_connections
from tests.timeline.making import timeline

PROGRAMS = Path(__file__).parent / "programs"
NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None


class Awaited(dspy.Module):
    """With code for an event loop alone, in which one call blocks."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    async def aforward(self, question):
        first = self.ask(question=question).answer
        return first, (await self.ask.acall(question=first)).answer


class Yielding(dspy.Module):
    def forward(self, question):
        yield question


class Nothing(dspy.Module):
    pass


class Broken(dspy.Module):
    def __init__(self):
        raise OSError("no such index")


def items(question):
    yield question


async def async_items(question):
    yield question


class Meeting(dspy.BaseLM):
    """Answers async calls when so many are in flight, and sync ones at once."""

    def __init__(self, size):
        super().__init__("meeting")
        self.size, self.there, self.is_full = size, 0, None

    def forward(self, prompt=None, messages=None, **kwargs):
        text = "[[ ## summary ## ]]\na\n\n[[ ## found ## ]]\na\n\n[[ ## completed ## ]]"
        message = SimpleNamespace(content=text, tool_calls=None)
        return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")], usage={}, model="m")

    async def aforward(self, *args, **kwargs):
        if self.is_full is None:
            self.is_full = asyncio.Event()
        self.there += 1
        if self.there == self.size:
            self.is_full.set()
        await self.is_full.wait()
        return self.forward()


@pytest.mark.parametrize(
    ("target", "inputs", "at_once"),
    [
        ("documents.py:awaiting", 4, 4),
        ("fan_out.py:builder", 1, 30),
        ("fan_out.py:async_nodes", 2, 60),
    ],
)
def test_what_runs_at_once_does(target, inputs, at_once):
    """No call returns before so many are in flight: less of them would wait for ever."""
    if target.startswith("fan_out"):
        pytest.importorskip("langgraph")
    dspy.configure(lm=Meeting(at_once))
    compared = compare(load_target(f"{PROGRAMS}/{target}"), [{"text": f"text {n}"} for n in range(inputs)])
    assert not compared.different
    assert compared.after.timeline.figures.peak_in_flight >= at_once
    assert compared.before.timeline.figures.peak_in_flight <= min(32, at_once)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # DSPy leaves connections to the gc
@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
def test_it_is_as_it_is_with_the_pools_that_dspy_makes(lm_server):
    """And the other way has ours."""
    seams.uninstall()
    lm = dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())
    lm("a sync call")
    count, seen = STOCK + 50, []

    def sizes(loop):
        return [engine.router._transport.max_connections for key, engine in lm._engine_store.items() if key[0] is loop]

    async def wide(gate):
        lm_server.configure(gate=gate[len(seen)], max_hold=50)
        replies = await asyncio.gather(*(lm.acall(str(n)) for n in range(count)))
        seen.append(sizes(asyncio.get_running_loop()))
        return len(replies)

    assert sizes(None) == [STOCK]
    compared = compare(as_target(wide), [{"gate": [STOCK, count]}])
    assert compared.before.outputs == compared.after.outputs == [count]
    assert seen == [[STOCK], [max_connections()]]
    assert compared.after.timeline.figures.peak_in_flight == count
    assert compared.before.requests == compared.after.requests == count
    lm.close()


def test_a_class_with_aforward_alone_is_awaited_both_ways():
    dspy.configure(lm=DummyLM([{"answer": "yes"}] * 8))
    compared = compare(as_target(Awaited), [{"question": "one"}, {"question": "two"}])
    assert (compared.before.how, compared.after.how) == ("await Awaited.acall(...)", "await run(Awaited.acall, ...)")
    assert compared.before.outputs == compared.after.outputs == [("yes", "yes")] * 2
    assert [len(run.timeline.lm_calls) for run in (compared.before, compared.after)] == [4, 4]
    assert compared.before.timeline.spans[0].name == "Awaited"


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (Yielding, "forward is a generator function"),
        (items, "items is a generator function"),
        (async_items, "async_items is a generator function"),
        (Nothing, "has no forward"),
        (Broken, "cannot be made: OSError: no such index"),
        (overlapped(lambda question: question), "parallelised already"),
        (
            async_module(type("Ahead", (Awaited,), {"forward": lambda self, question: 1}), overlap=True),
            "overlaps already",
        ),
    ],
)
def test_what_cannot_be_compared_is_not_run(program, says):
    with pytest.raises(TargetError, match=says):
        compare(as_target(program, "it"), [{"question": "?"}])


def test_a_page_that_cannot_be_written_is_said_before_anything_runs(tmp_path, capsys):
    (tmp_path / "input.json").write_text("{}")
    page = tmp_path / "nowhere" / "page.html"
    target = f"{__file__}:Nothing"
    assert main(["compare", target, "--input", f"{tmp_path}/input.json", "--html", str(page)]) == 2
    assert capsys.readouterr().err == f"The file {page} cannot be written: No such file or directory.\n"


@pytest.mark.parametrize(
    ("rows", "requests"),
    [
        ([], 0),
        ([(0, 1, None, "lm", "m", {"requests": 2}), (1, 2, None, "lm", "m", {"cached": True})], 2),
        ([(0, 1, None, "lm", "m", {"error": "ConnectionError"})], 0),
        ([(0, 1, None, "lm", "outer"), (0, 1, 0, "predictor", "p"), (0, 1, 1, "lm", "m", {"requests": 1})], 1),
        ([(0, 1, None, "lm", "m", {"requests": 1}), (0, 1, None, "lm", "FakeListChatModel")], None),
    ],
)
def test_requests_are_counted_where_they_are_seen(rows, requests):
    run = Run("f()", 1.0, [], timeline(*rows))
    assert run.requests == requests
    said = "not known" if requests is None else f"{requests} / {requests}"
    assert f"LM requests: {said}. Same outputs." in summary(Comparison(run, run))
