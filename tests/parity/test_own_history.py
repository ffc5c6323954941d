"""`own_history()` has a block's own calls, whoever else uses the LM."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module, own_history, run_sync
from tests.support.loops import run_on
from tests.support.stub_lms import SyncLM, TwinLM, dummy_lm

MANY = 50


class Answer(dspy.Module):
    """Two calls, the second with the answer of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        first = self.predict(question=f"{question} first").answer
        return self.predict(question=f"{question} second {first}")


def decorated(engine: Any = "loop") -> Any:
    return async_module(engine=engine)(type("Answer", (Answer,), {}))()


def questions(calls: list[dict[str, Any]]) -> list[str]:
    """The first words of what was asked."""
    texts = [entry["messages"][-1]["content"] for entry in calls]
    return [" ".join(text.partition("[[ ## question ## ]]\n")[2].split()[:2]) for text in texts]


@pytest.mark.parametrize("make_lm", [TwinLM, SyncLM, dummy_lm], ids=["twin", "sync", "dummy"])
def test_a_plain_call(make_lm: Any) -> None:
    lm = make_lm()
    with dspy.context(lm=lm):
        Answer()("before")
        with own_history() as calls:
            Answer()("inside")
        Answer()("after")
    assert questions(calls) == ["inside first", "inside second"]
    assert calls == lm.history[2:4]
    assert calls[0] is lm.history[2], "the very entries"


@pytest.mark.parametrize("engine", ["loop", "thread", "auto"])
def test_many_at_once(engine: str) -> None:
    """Each has its own; the LM's history has all of them."""
    program, lm = decorated(engine), TwinLM()

    async def one(n: int) -> Any:
        with own_history() as calls:
            await program.acall(f"q{n}")
        return questions(calls)

    async def main() -> Any:
        with dspy.context(lm=lm), own_history() as everything:
            return await asyncio.gather(*(one(n) for n in range(MANY))), everything

    found, everything = run_on("asyncio", main)
    assert found == [[f"q{n} first", f"q{n} second"] for n in range(MANY)]
    assert len(lm.history) == 2 * MANY
    assert everything == lm.history


def test_blocks_nest() -> None:
    with dspy.context(lm=TwinLM()), own_history() as outer:
        Answer()("a")
        with own_history() as inner:
            Answer()("b")
        Answer()("c")
    assert questions(inner) == ["b first", "b second"]
    assert questions(outer) == [f"{name} {which}" for name in "abc" for which in ("first", "second")]


@pytest.mark.parametrize("threads", [1, 4])
def test_parallel(threads: int) -> None:
    """DSPy's threads get DSPy's settings, and nothing else of the context."""

    @async_module
    class Fan(Answer):
        def forward(self, names: str) -> Any:
            run = dspy.Parallel(num_threads=threads, disable_progress_bar=True)
            return run([(self.predict, {"question": f"{name} item"}) for name in names])

    def asked(call: Any) -> list[str]:
        with dspy.context(lm=TwinLM()), own_history() as calls:
            call("abcdef")
        return sorted(questions(calls))

    plain = asked(Fan())
    assert plain == [f"{name} item" for name in "abcdef"]
    assert asked(lambda names: asyncio.run(Fan().acall(names))) == plain


def test_asyncify_and_run_sync() -> None:
    with dspy.context(lm=TwinLM()):
        with own_history() as calls:
            asyncio.run(dspy.asyncify(Answer())("a"))
            run_sync(Answer(), "b", engine="loop")
    assert questions(calls) == ["a first", "a second", "b first", "b second"]


def test_other_threads_are_not_seen() -> None:
    lm = TwinLM()
    dspy.configure(lm=lm)
    with own_history() as calls:
        other = threading.Thread(target=Answer(), args=("other",))
        other.start()
        other.join()
        Answer()("own")
    assert questions(calls) == ["own first", "own second"]
    assert len(lm.history) == 4


def test_history_that_is_disabled_stays_empty() -> None:
    for make_lm in (TwinLM, dummy_lm):
        with dspy.context(lm=make_lm(), disable_history=True), own_history() as calls:
            Answer()("a")
        assert calls == []


@pytest.mark.parametrize("size", [0, 1, 3])
def test_max_history_size_does_not_shorten_it(size: int) -> None:
    lm = TwinLM()
    with dspy.context(lm=lm, max_history_size=size), own_history() as calls:
        for name in "abc":
            asyncio.run(decorated().acall(name))
    assert len(calls) == 6
    assert lm.history == calls[len(calls) - size :]


def test_several_lms_in_the_order_in_which_calls_end() -> None:
    one, two = TwinLM("one"), TwinLM("two")
    with own_history() as calls:
        for lm in (one, two, one):
            with dspy.context(lm=lm):
                dspy.Predict("question -> answer")(question="q")
    assert [entry["model"] for entry in calls] == ["stub/one", "stub/two", "stub/one"]


def test_an_exception_leaves_nothing_behind() -> None:
    with pytest.raises(ZeroDivisionError), own_history() as calls:
        1 / 0
    with dspy.context(lm=TwinLM()):
        Answer()("a")
    assert calls == []
