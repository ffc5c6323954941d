"""Usage, history and trace of programs that run together, fail or are cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module, own_history
from tests.support.observation import Describer, entry
from tests.support.stub_lms import LMFailure, TwinLM

MANY = 40


class Steps(dspy.Module):
    """As many calls as it is told; every fifth program fails at its last one."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.think = dspy.ChainOfThought("question -> answer")

    def forward(self, number: int) -> Any:
        answers = [self.ask(question=f"{number} step {step}").answer for step in range(number % 4)]
        last = "raise LMFailure" if number % 5 == 4 else f"{number} last"
        return self.think(question=f"{last} {answers}")


async def observe(number: int, call: Any, lm: Any) -> dict[str, Any]:
    """Everything that is recorded of one program."""
    describe, trace = Describer(), []
    raised, prediction = None, None
    with dspy.context(lm=lm, trace=trace), own_history() as calls, dspy.track_usage() as usage:
        try:
            prediction = await call(number)
        except LMFailure as exc:
            raised = exc.args
    return {
        "raised": raised,
        "output": prediction and prediction.toDict(),
        "usage": usage.get_total_tokens(),
        "calls": [entry(describe, found) for found in calls],
        "trace": [(module.signature.signature, inputs, outputs.toDict()) for module, inputs, outputs in trace],
    }


@pytest.mark.parametrize("engine", ["loop", "thread", "auto"])
def test_gathered_programs_of_which_some_fail(engine: Any) -> None:
    """Each one's records are those of the same program alone; the sum of all is that of all in a row."""
    program = async_module(engine=engine)(type("Steps", (Steps,), {}))()
    plain = Steps()

    async def called(number: int) -> Any:
        return plain(number)

    async def together(lm: Any) -> Any:
        with dspy.track_usage() as usage:
            found = await asyncio.gather(*(observe(n, program.acall, lm) for n in range(MANY)))
        return found, usage.get_total_tokens()

    async def in_a_row(lm: Any) -> Any:
        with dspy.track_usage() as usage:
            found = [await observe(n, called, lm) for n in range(MANY)]
        return found, usage.get_total_tokens()

    shared, other = TwinLM(), TwinLM()
    found, expected = asyncio.run(together(shared)), asyncio.run(in_a_row(other))
    for this, that in zip(found[0], expected[0], strict=True):
        assert this == that
    assert [bool(one["raised"]) for one in found[0]] == [n % 5 == 4 for n in range(MANY)]
    assert found[1] == expected[1]
    assert all(one["usage"] for one in found[0] if not one["raised"])
    describe = Describer()
    assert sorted(repr(entry(describe, e)) for e in shared.history) == sorted(
        repr(entry(describe, e)) for e in other.history
    )


def test_a_gather_in_an_aforward_of_ones_own() -> None:
    """Usage, history and trace have every call, and usage is rolled up to the outer program."""
    part = async_module(engine="loop")(type("Steps", (Steps,), {}))()
    numbers = [0, 1, 2, 3, 5, 6]

    class Outer(dspy.Module):
        def forward(self) -> Any:
            return dspy.Prediction(answers=[part(n).answer for n in numbers])

        async def aforward(self) -> Any:
            found = await asyncio.gather(*(part.acall(n) for n in numbers))
            return dspy.Prediction(answers=[one.answer for one in found])

    async def called(_: Any) -> Any:
        return Outer()()

    async def awaited(_: Any) -> Any:
        return await Outer().acall()

    found, expected = (asyncio.run(observe(0, call, TwinLM())) for call in (awaited, called))
    for name in ("output", "usage"):
        assert found[name] == expected[name]
    for name in ("calls", "trace"):
        # These are in the order in which calls end, which is not that of a program that makes one at a time.
        assert sorted(map(repr, found[name])) == sorted(map(repr, expected[name]))
    assert len(found["trace"]) == sum(n % 4 + 1 for n in numbers)


def test_a_cancelled_program_leaves_what_it_has_done() -> None:
    """The calls that were answered are in trace, usage and history; the one that was cancelled is in none."""
    waiting = asyncio.Event()

    class LastWaits(TwinLM):
        async def aforward(self, *args: Any, **kwargs: Any) -> Any:
            if "last" in str(kwargs):
                waiting.set()
                await asyncio.Event().wait()
            return await super().aforward(*args, **kwargs)

    program = async_module(engine="loop")(type("Steps", (Steps,), {}))()
    trace: list[Any] = []
    lm = LastWaits()

    async def main() -> Any:
        with dspy.context(lm=lm, trace=trace), own_history() as calls, dspy.track_usage() as usage:
            task = asyncio.create_task(program.acall(3))
            await waiting.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
        return calls, usage.get_total_tokens()

    calls, usage = asyncio.run(main())
    assert [inputs["question"] for _, inputs, _ in trace] == [f"3 step {n}" for n in range(3)]
    assert len(calls) == len(lm.history) == 3
    (tokens,) = usage.values()
    assert tokens["total_tokens"] == sum(entry["usage"]["total_tokens"] for entry in calls)
    assert dspy.settings.get("caller_modules") in (None, [])
