"""Programs that run at the same time do not see each other's trace, history, usage, settings or callbacks."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from tests.support.known_programs import known
from tests.support.loops import run_on
from tests.support.observation import Describer, Recorder
from tests.support.stub_lms import TwinLM

MANY = 30
number: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=-1)


class Meeting:
    """Lets nobody go on before all have come, so that all calls are in flight at once."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.come = 0
        self.most = 0
        self.complete = asyncio.Event()

    async def __call__(self) -> None:
        self.come += 1
        if self.come == self.expected:
            self.complete.set()
        await self.complete.wait()


class MeetingLM(TwinLM):
    """Answers only when all callers wait."""

    meeting: Meeting

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        await self.meeting()
        return await super().aforward(*args, **kwargs)

    def copy(self, **kwargs: Any) -> Any:
        copied = super().copy(**kwargs)
        copied.meeting = self.meeting
        return copied


class Program(dspy.Module):
    """Notes what it finds around each of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("question -> answer")
        self.then = dspy.ChainOfThought("question -> answer")

    def forward(self, own: int) -> Any:
        seen = [self.look()]
        number.set(own)
        answer = self.first(question=f"first {own}").answer
        seen.append(self.look())
        with dspy.context(own=own):
            answer = self.then(question=f"then {own} {answer}").answer
            seen.append((*self.look(), dspy.settings.own))
        return dspy.Prediction(answer=answer, seen=seen)

    def look(self) -> tuple[Any, ...]:
        return number.get(), len(dspy.settings.trace), dspy.settings.label, len(dspy.settings.caller_modules)


async def one(own: int, program: Any, meeting: Meeting | None) -> dict[str, Any]:
    lm = (MeetingLM if meeting else TwinLM)(str(own % 7))
    if meeting:
        lm.meeting = meeting
    describe = Describer()
    describe.introduce(program, "program")
    describe.introduce(lm, "lm")
    recorder = Recorder(describe)
    trace: list[Any] = []
    with dspy.context(lm=lm, trace=trace, callbacks=[recorder], track_usage=True, label=own):
        output = await program.acall(own) if meeting else program(own)
    return {
        "output": describe(output),
        "usage": output.get_lm_usage(),
        "trace": [(describe(module), describe(inputs), describe(outputs)) for module, inputs, outputs in trace],
        "callbacks": recorder.events,
        "history": [(entry["messages"], entry["outputs"]) for entry in lm.history],
        "number": number.get(),
    }


@pytest.mark.parametrize(
    ("way", "shared"), [("loop", True), ("loop", False), ("thread", True), ("auto", False), ("known", True)]
)
def test_many_at_once(way: str, shared: bool) -> None:
    """Each of them sees what it sees alone."""
    cls = async_module(engine=way if way in ("loop", "thread") else "auto")(type("Program", (Program,), {}))
    program = cls()

    async def together() -> Any:
        meeting = Meeting(MANY)
        own = (program if shared else cls() for _ in range(MANY))
        return await asyncio.gather(*(one(n, p, meeting) for n, p in enumerate(own)))

    async def alone() -> Any:
        return [await asyncio.create_task(one(n, program, None)) for n in range(MANY)]

    with known(*([cls] if way == "known" else [])):
        found, expected = run_on("asyncio", together), run_on("asyncio", alone)
    for this, that in zip(found, expected, strict=True):
        assert this == that
    assert {result["number"] for result in found} == set(range(MANY))


def test_history_of_a_program_of_ones_own() -> None:
    """`program.history` has the program's own calls, all of them, and no others'."""
    cls = async_module(engine="loop")(type("Program", (Program,), {}))
    programs = [cls() for _ in range(MANY)]

    async def together() -> None:
        meeting = Meeting(MANY)
        await asyncio.gather(*(one(n, p, meeting) for n, p in enumerate(programs)))

    run_on("asyncio", together)
    for own, program in enumerate(programs):
        texts = [entry["messages"][-1]["content"] for entry in program.history]
        assert [f"first {own}\n" in texts[0], f"then {own} " in texts[1], len(texts)] == [True, True, 2]


def test_cancelling_one_leaves_the_others_alone() -> None:
    cls = async_module(engine="loop")(type("Program", (Program,), {}))

    async def main() -> Any:
        meeting = Meeting(4)
        tasks = [asyncio.create_task(one(n, cls(), meeting)) for n in range(3)]
        while meeting.come < 3:
            await asyncio.sleep(0)
        tasks[1].cancel()
        await meeting()  # the fourth
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, last = run_on("asyncio", main)
    assert isinstance(cancelled, asyncio.CancelledError)
    assert len(first["history"]) == len(last["history"]) == 2
