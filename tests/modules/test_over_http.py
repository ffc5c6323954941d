"""Real LMs over HTTP: `acall()` gives what a call gives, and calls overlap."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from tests.support.observation import World, assert_same, observe
from tests.testing.dspy_world import ENGINES, make_lm

ADAPTERS = [dspy.ChatAdapter, dspy.JSONAdapter]


class Program(dspy.Module):
    """Several calls, one of them with several answers, and one that fails and is caught."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.think = dspy.ChainOfThought("question -> answer: int")
        self.many = dspy.Predict("question -> answer", n=2)

    def forward(self, question: str) -> Any:
        prediction = self.think(question=question)
        self.world.note(prediction.answer)
        try:
            self.think(question="refuse this")
        except Exception as exc:
            self.world.note(type(exc).__name__, str(exc))
        return dspy.Prediction(first=prediction.answer, many=self.many(question=question).completions.answer)


def make(world: World) -> Any:
    return type("Program", (Program,), {})(world), ("Why?",), {}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_same_over_http(lm_server: LMServer, engine: Any, adapter: Any) -> None:
    """History with usage and cost, prediction's usage, trace, callbacks, errors of the client library."""
    lm_server.configure(faults=[{"kind": "400", "match": "refuse this"}])
    try:
        # What LiteLLM says when it is first used must not count.
        observe(make, "sync", lambda: {"main": make_lm(lm_server, engine)}, adapter=adapter())
        seen = assert_same(make, lambda: {"main": make_lm(lm_server, engine)}, track_usage=True, adapter=adapter())
    finally:
        lm_server.configure(faults=[])
    assert len(seen["effects"]) == 2, seen["effects"]
    assert seen["output"][2], "no usage"
    assert len(seen["lm histories"]["main"]) >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_calls_are_paid_once(lm_server: LMServer, engine: Any) -> None:
    """Sync and async calls share cache entries, and tell cache hits alike."""
    lm_server.reset_stats()

    def make_lms() -> dict[str, Any]:
        return {"main": make_lm(lm_server, engine, cache=True, model=f"openai/{os.urandom(4).hex()}")}

    lm = make_lms()["main"]
    first = assert_same(make, lambda: {"main": lm.copy()}, ways=())
    before = lm_server.stats().requests
    again = assert_same(make, lambda: {"main": lm.copy()})
    assert lm_server.stats().requests == before
    assert again["output"] == first["output"]


class Extractor(dspy.Module):
    """As in the issue: a forward-only module that is given its LM."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.extractor = dspy.ChainOfThought(
            "branch_intent, selected_label, properties: list[str] -> filters: list[str]"
        )

    def forward(self, **inputs: Any) -> Any:
        with dspy.context(lm=self.lm):
            return self.extractor(**inputs)


class Asking(dspy.Module):
    """Nothing but an LM call."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, text: str) -> Any:
        return self.lm(text)


INPUTS = {"branch_intent": "test", "selected_label": "Idea", "properties": ["created_at"]}


@pytest.mark.parametrize("way", ["loop", "thread", "auto"])
@pytest.mark.parametrize("engine", ENGINES)
def test_verification_of_the_issue(lm_server: LMServer, engine: Any, way: Any) -> None:
    """Three extractors at once. The server answers only when all three wait, so no clock is needed."""
    lm_server.configure(gate=3)
    extractors = [
        async_module(engine=way)(type(name, (Extractor,), {}))(make_lm(lm_server, engine))
        for name in ("Time", "NonTime", "VectorSearch")
    ]

    async def all_at_once() -> Any:
        return await asyncio.wait_for(asyncio.gather(*(extractor.acall(**INPUTS) for extractor in extractors)), 240)

    results = asyncio.run(all_at_once())
    assert [result.filters for result in results] == [extractors[0](**INPUTS).filters] * 3
    assert lm_server.stats().peak_in_flight == 3


# Clients keep connections open, about which uvloop warns when it is closed. As an error, that would keep it open.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_on_every_event_loop(lm_server: LMServer, run_here: Any, engine: Any, no_leaks: None) -> None:
    """Two requests that have to be in flight at once, from the loop and from threads."""
    lm = make_lm(lm_server, engine)
    expected = [lm("Say 0"), lm("Say 1")]

    async def main() -> Any:
        for way in ("loop", "thread"):
            lm_server.configure(gate=2)
            program = async_module(engine=way)(type("Asking", (Asking,), {}))(lm)
            both = asyncio.gather(*(program.acall(f"Say {n}") for n in range(2)))
            assert await asyncio.wait_for(both, 240) == expected

    run_here(main)
