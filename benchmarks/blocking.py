"""`engine="auto"` with programs that block where no seam sees it, and with one that does not: first runs only."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import dspy

from benchmarks import table
from benchmarks.measure import ratio
from benchmarks.workload import WORKLOADS, Stub, blocking, documents
from dspy_parallel import async_module, batch, install, uninstall

__all__ = ["POOL", "SIDES", "first_peak", "first_runs", "show"]

POOL = "a plain thread pool"
Run = Callable[[dspy.Module, list[str], int], None]


def _pool(program: dspy.Module, texts: list[str], in_flight: int) -> None:
    with ThreadPoolExecutor(in_flight) as executor:
        list(executor.map(lambda text: program(document=text), texts))


def _batch(program: dspy.Module, texts: list[str], in_flight: int) -> None:
    batch(program, [{"document": text} for text in texts], max_in_flight=in_flight, progress=False)


def _gather(program: dspy.Module, texts: list[str], in_flight: int) -> None:
    async def main() -> None:
        room = asyncio.Semaphore(in_flight)

        async def one(text: str) -> None:
            async with room:
                await program.acall(document=text)

        await asyncio.gather(*map(one, texts))

    asyncio.run(main())


def _evaluate(program: dspy.Module, texts: list[str], in_flight: int) -> None:
    rows = [dspy.Example(document=text).with_inputs("document") for text in texts]
    dspy.Evaluate(devset=rows, metric=lambda *_: 1.0, num_threads=in_flight)(program)


def _installed(program: dspy.Module, texts: list[str], in_flight: int) -> None:
    install(executors=True)
    try:
        _evaluate(program, texts, in_flight)
    finally:
        uninstall()


SIDES: dict[str, Run] = {
    POOL: _pool,
    "ours: acall()": _gather,
    "ours: batch()": _batch,
    "Evaluate, DSPy's threads": _evaluate,
    "ours: Evaluate": _installed,
}


def first_runs(block: float, latency: float, in_flight: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Wall times of first runs of a program that blocks, and then calls an LM.

    Args:
        block: Seconds for which it blocks.
        latency: Seconds that its LM takes.
        in_flight: How many run at a time.
        count: How many run.
        rounds: How often each side has its turn, in another order each time, with a program of its own.
    """
    new = documents("blocks")
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    names = list(SIDES)
    for number in range(-1, rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            cls = blocking(block)
            program = (async_module(cls) if name == "ours: acall()" else cls)()
            program.set_lm(Stub(latency))
            texts = new(count)
            gc.collect()  # what one leaves behind is not to be the next one's burden
            started = time.perf_counter()
            SIDES[name](program, texts, in_flight)
            if number >= 0:  # the first round is for imports
                seconds[name].append(time.perf_counter() - started)
    return seconds


class _Meeting(Stub):
    """A stub that answers nobody before so many calls are in flight; after a minute it gives up, and answers all."""

    def __init__(self, wanted: int) -> None:
        super().__init__()
        self._wanted = wanted
        self._all_there: Future[None] = Future()

    def _enter(self, change: int) -> None:
        super()._enter(change)
        if self.peak >= self._wanted and not self._all_there.done():
            self._all_there.set_result(None)

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        wait([self._all_there], timeout=60)
        self._enter(-1)
        return [self._reply]

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> list[str]:
        self._enter(1)
        await asyncio.wait([asyncio.wrap_future(self._all_there)], timeout=60)
        self._enter(-1)
        return [self._reply]


def first_peak(in_flight: int) -> int:
    """How many LM calls of the first batch of a program that does not block are in flight at once."""
    cls: Any = async_module(type("Clean", (WORKLOADS["extract"].plain,), {}))
    program, lm = cls(), _Meeting(in_flight)
    program.set_lm(lm)
    _batch(program, documents("clean")(in_flight), in_flight)
    return lm.peak


def show(block: float, latency: float, in_flight: int, count: int, seconds: dict[str, list[float]]) -> None:
    """Print the table."""
    table.show(
        f"{count:,} first runs of a program that blocks {block * 1e3:.0f} ms and calls an LM that takes "
        f"{latency * 1e3:.0f} ms, {in_flight} in flight",
        ("", "wall, × a plain thread pool"),
        [(name, ratio(own, seconds[POOL])) for name, own in seconds.items()],
    )
