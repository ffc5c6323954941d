"""`engine="auto"` with programs that block where no seam sees it, and with one that does not."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
import warnings

from benchmarks import table
from benchmarks.contenders import CONTENDERS, Run
from benchmarks.measure import Ratio, ratio
from benchmarks.workload import WORKLOADS, Stub, Workload, blocking, documents
from dspy_parallel import BlockingWarning, async_module, placement_of

__all__ = ["against_threads", "batches_until_loop", "first_runs", "show"]

SIDES = ("threads, one per run", "ours, auto", "ours, loop")


async def first_runs(when: str, in_flight: int, rounds: int, latency: float = 0.2) -> dict[str, list[float]]:
    """Wall times of concurrent first runs of a program that blocks for 0.2 s before or after its LM call."""
    new = documents(f"blocks {when}")
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name in SIDES:
            if name == "ours, loop" and (seconds[name] or when == "before"):
                continue  # the reason why it is not the default; takes so long that once is enough
            cls = blocking(when)
            run: Run = CONTENDERS[name](Workload("blocking", cls, cls), Stub(latency))
            gc.collect()  # what one leaves behind is not to be the next one's burden
            started = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", BlockingWarning)
                await run(new(in_flight))
            seconds[name].append(time.perf_counter() - started)
    return seconds


async def batches_until_loop(in_flight: int, latency: float = 0.05) -> tuple[int, bool]:
    """After how many batches a clean program is on the loop, and whether the next one runs without a thread more."""
    cls = async_module(type("Clean", (WORKLOADS["extract"].plain,), {}))
    program = cls()
    program.set_lm(Stub(latency))
    new = documents("clean")
    batches = 0
    while placement_of(cls).state != "loop" and batches < 10:
        await asyncio.gather(*(program.acall(document=document) for document in new(in_flight)))
        batches += 1
    threads_used: set[str] = set()

    def forward(document: str) -> object:
        threads_used.add(threading.current_thread().name)
        return cls.forward(program, document)

    program.forward = forward
    await asyncio.gather(*(program.acall(document=document) for document in new(in_flight)))
    return batches, threads_used == {threading.current_thread().name}


def against_threads(seconds: dict[str, list[float]], name: str) -> Ratio:
    """A side's wall time against plain threads; what was run once is compared to their median."""
    threads = seconds[SIDES[0]]
    own = seconds[name]
    return ratio(own, threads if len(own) == len(threads) else [statistics.median(threads)] * len(own))


def show(when: str, in_flight: int, seconds: dict[str, list[float]]) -> None:
    """Print the table."""
    table.show(
        f"{in_flight} concurrent first runs of a program that blocks {when} its LM call",
        ("", "wall, × threads"),
        [(name, against_threads(seconds, name)) for name, own in seconds.items() if own],
    )
