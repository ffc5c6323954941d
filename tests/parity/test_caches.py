"""A cache that was filled one way serves the other, for whole programs and many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from dspy_parallel.seams import single_flight
from dspy_parallel.testing import LMServer
from tests.testing.dspy_world import ENGINES, make_lm

MANY = 25


class Steps(dspy.Module):
    """Two calls each, the first of them the same in every fifth program."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.think = dspy.ChainOfThought("question -> answer: int")

    def forward(self, number: int) -> Any:
        first = self.ask(question=f"shared {number % 5}").answer
        return dspy.Prediction(first=first, then=self.think(question=f"{number}: {first}").answer)


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A fresh cache of one kind."""
    kept = dspy.cache
    in_memory = request.param == "memory"
    dspy.configure_cache(enable_disk_cache=not in_memory, enable_memory_cache=in_memory, disk_cache_dir=str(tmp_path))
    yield dspy.cache
    if not in_memory:
        dspy.cache.disk_cache.close()
    dspy.cache = kept


def run(way: str, lm: Any) -> list[Any]:
    """All programs, in a row or together."""

    async def together(program: Any) -> Any:
        return await asyncio.gather(*(program.acall(n) for n in range(MANY)))

    with dspy.context(lm=lm):
        if way == "sync":
            program = Steps()
            found = [program(n) for n in range(MANY)]
        else:
            found = asyncio.run(together(async_module(engine=way)(type("Steps", (Steps,), {}))()))
    return [prediction.toDict() for prediction in found]


@pytest.mark.parametrize(
    ("first", "then"), [("sync", "loop"), ("sync", "thread"), ("loop", "sync"), ("thread", "sync"), ("loop", "thread")]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_filled_one_way_it_serves_the_other(
    lm_server: LMServer, cache: Any, engine: Any, first: str, then: str
) -> None:
    """Not one more request; and a run on an empty cache makes as many as a sync one: equal calls are made once."""
    lm = make_lm(lm_server, engine, cache=True)
    filled = run(first, lm)
    assert lm_server.stats().requests == MANY + 5
    lm.history.clear()
    assert run(then, lm) == filled
    assert lm_server.stats().requests == MANY + 5
    assert len(lm.history) == 2 * MANY
    assert not any(entry["usage"] for entry in lm.history), "cache hits are free"


@pytest.mark.parametrize("engine", ENGINES)
def test_cancelling_the_first_of_a_hundred_equal_programs(lm_server: LMServer, cache: Any, engine: Any) -> None:
    """None of the others fails; the next in line makes the request again."""
    lm = make_lm(lm_server, engine, cache=True)
    program = async_module(engine="loop")(type("Steps", (Steps,), {}))()
    lm_server.configure(hold=True)

    async def main() -> Any:
        with dspy.context(lm=lm):
            tasks = [asyncio.create_task(program.acall(1)) for _ in range(100)]
            await lm_server.await_for(held=1)
            tasks[0].cancel()
            await lm_server.await_for(requests=2)
            await lm_server.arelease()
            return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 80)

    first, *others = asyncio.run(main())
    assert isinstance(first, asyncio.CancelledError)
    assert len({repr(other.toDict()) for other in others}) == 1
    assert lm_server.stats().requests == 3, "the cancelled one, its successor, and the second call of all"
    assert single_flight._flights == {}
