"""parallel_map() and gather(): results, order, errors, cancellation, and what they leave in DSPy's settings."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import Any

import dspy
import pytest
from dspy.clients.base_lm import GLOBAL_HISTORY

from dspy_parallel import UnknownEngineError, await_, gather, own_history, parallel_map, run
from tests.batch.programs import Ask, StubLM
from tests.seams.programs import VERSION

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets that LiteLLM's client has left open
    ),
    pytest.mark.usefixtures("no_leaks"),
]

WORDS = ["x" * length for length in (40, 1, 30, 2, 20)]
"""Questions that take longer the longer they are."""


class Fan(dspy.Module):
    """Asks once before and once after it has asked several at once."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.ask = Ask()
        self.how = how

    def forward(self, questions: list[str]) -> Any:
        self.ask(question="before")
        if self.how == "loop":
            found = [self.ask(question=question) for question in questions]
        elif self.how == "map":
            found = parallel_map(lambda question: self.ask(question=question), questions, engine="loop")
        else:
            found = gather(*(lambda q=q: self.ask(question=q) for q in questions), engine="loop")
        self.ask(question="after")
        return dspy.Prediction(answers=[each.answer for each in found])


def observed(program: Fan, questions: list[str], call: Any) -> Any:
    """All that a run leaves behind."""
    from dspy.utils.usage_tracker import track_usage

    lm = dspy.settings.lm
    lm.history.clear()
    GLOBAL_HISTORY.clear()
    with dspy.context(trace=[], track_usage=True), track_usage() as tracker, own_history() as own:
        try:
            result = call(lambda: program(questions=questions)).answers
        except Exception as exc:
            result = repr(exc)
        trace = [(inputs["question"], outputs.answer) for _, inputs, outputs in dspy.settings.trace]
    histories = (lm.history, GLOBAL_HISTORY, program.history, program.ask.history, program.ask.ask.history, own)
    asked = [[entry["messages"][-1]["content"].split("\n")[1] for entry in history] for history in histories]
    return result, trace, {name: list(entries) for name, entries in tracker.usage_data.items()}, asked


def on_a_loop(call: Any) -> Any:
    return asyncio.run(run(call, engine="loop"))


@pytest.mark.parametrize("how", ["map", "gather"])
@pytest.mark.parametrize("where", [lambda call: call(), on_a_loop], ids=["plain", "bridged"])
@pytest.mark.parametrize("questions", [WORDS, [*WORDS[:3], "bad", *WORDS[3:]], []], ids=["good", "bad", "none"])
def test_everything_is_as_in_sequence(lm: StubLM, how: str, where: Any, questions: list[str]) -> None:
    wanted = observed(Fan("loop"), questions, lambda call: call())
    assert observed(Fan(how), questions, where) == wanted
    assert wanted[1][0] == ("before", "before!")


def test_calls_are_made_at_once(lm: StubLM) -> None:
    def release() -> str:
        async def when_all_wait() -> str:
            while lm.in_flight < 5:
                await asyncio.sleep(0)
            lm.released.set()
            return "released"

        return await_(when_all_wait())

    program = Ask()
    calls = [lambda n=n: program(question=f"hold {n}").answer for n in range(5)]
    assert gather(*calls, release) == [*(f"hold {n}!" for n in range(5)), "released"]
    lm.released.clear()
    assert on_a_loop(lambda: gather(*calls, release)) == [*(f"hold {n}!" for n in range(5)), "released"]


def test_the_history_is_in_order_whoever_ends_first(lm: StubLM) -> None:
    program = Ask()

    def second() -> str:
        answer = program(question="second").answer
        lm.released.set()
        return answer

    assert gather(lambda: program(question="hold").answer, second) == ["hold!", "second!"]
    asked = [entry["messages"][-1]["content"].split("\n")[1] for entry in lm.history]
    assert asked == ["hold", "second"]


def test_nested(lm: StubLM) -> None:
    def inner(n: int) -> list[str]:
        return [each.answer for each in parallel_map(lambda k: Ask()(question=f"{n}.{k}"), range(3), engine="loop")]

    with dspy.context(trace=[]):
        assert parallel_map(inner, range(4), engine="loop") == [[f"{n}.{k}!" for k in range(3)] for n in range(4)]
        assert [inputs["question"] for _, inputs, _ in dspy.settings.trace] == [
            f"{n}.{k}" for n in range(4) for k in range(3)
        ]


def test_the_first_error_in_order_is_raised_and_the_rest_cancelled() -> None:
    ended: list[Any] = []

    async def call(n: int) -> int:
        try:
            if n in (2, 3):
                for _ in range(20 if n == 2 else 1):
                    await asyncio.sleep(0)
                raise KeyError(n)
            await asyncio.sleep(60 if n > 3 else 0)
            return n
        finally:
            ended.append(n)

    with pytest.raises(KeyError, match="2"):
        parallel_map(call, range(8))
    assert sorted(ended) == list(range(8))


def test_a_cancel_of_the_caller_cancels_the_calls(lm: StubLM) -> None:
    async def main() -> None:
        task = asyncio.create_task(
            run(lambda: parallel_map(lambda n: Ask()(question=f"hold {n}"), range(4), engine="loop"), engine="loop")
        )
        while lm.in_flight < 4:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lm.in_flight == 0

    asyncio.run(main())


@pytest.mark.parametrize("how", ["map", "gather"])
def test_a_cancel_half_way_keeps_what_was_done(lm: StubLM, how: str) -> None:
    """Trace, usage and histories have the calls that had ended, in the items' order."""
    questions = ["hold 1", *WORDS[:2], "hold 2", *WORDS[2:]]

    def when_all_else_is_done(call: Any) -> Any:
        async def main() -> None:
            task = asyncio.create_task(run(call, engine="loop"))
            while lm.in_flight < 2 or len(lm.history) < 1 + len(WORDS):
                await asyncio.sleep(0)
            while lm.in_flight > 2:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        return dspy.Prediction(answers="cancelled")

    answers, trace, usage, asked = observed(Fan(how), questions, when_all_else_is_done)
    assert answers == "cancelled"
    ended = ["before", *WORDS]
    assert trace == [(word, f"{word}!") for word in ended]
    if VERSION >= (3, 3):  # before, the stub counts what it has not answered yet, too
        assert [len(entries) for entries in usage.values()] == [len(ended)]
    assert asked == [ended] * 6


def test_all_at_once_from_the_first_run_on() -> None:
    """They wait for one another, and block."""
    together = threading.Barrier(200, timeout=60)
    assert sorted(parallel_map(lambda _: together.wait(), range(200))) == list(range(200))


def test_no_more_at_once_than_allowed() -> None:
    running = peak = 0

    async def call(n: int) -> int:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        for _ in range(5):
            await asyncio.sleep(0)
        running -= 1
        return n

    assert parallel_map(call, range(20), max_in_flight=3) == list(range(20))
    assert peak == 3


def test_each_call_has_a_copy_of_the_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)

    def call(n: int) -> int:
        before = variable.get()
        variable.set(n)
        return before

    variable.set(7)
    assert parallel_map(call, range(5)) == [7] * 5
    assert variable.get() == 7


def test_wrong_options() -> None:
    with pytest.raises(UnknownEngineError):
        gather(lambda: 1, engine="fast")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        parallel_map(abs, [1], max_in_flight=0)
    with contextlib.suppress(TypeError):
        parallel_map(abs, 5)  # type: ignore[arg-type]
    assert gather() == []
