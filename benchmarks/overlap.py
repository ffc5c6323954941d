"""Overlap inside one program: in sequence, with `overlap=True`, and as the best async program written by hand.

Each figure is the median of rounds in which the three take turns. The LM is on loopback, over HTTP.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dspy

from benchmarks import table
from benchmarks.overlap_programs import PROGRAMS, Program
from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from tests.support.known_programs import known
from tests.support.timed_lm import Latency, TimedLM, one_second
from tests.support.virtual_time import run_virtual

__all__ = [
    "Cost",
    "Measured",
    "Virtual",
    "forget_searches",
    "idle",
    "measure",
    "on_virtual_clock",
    "programs",
    "sequential_cost",
    "share",
    "show",
    "show_cost",
    "show_shares",
]


@dataclass(frozen=True)
class Measured:
    """Seconds of one program.

    Attributes:
        program: The program.
        sequential: In the bridge, one call after the other.
        overlapped: With a scout ahead.
        by_hand: Written by hand.
        calls: LM calls that the overlapped program made.
        calls_in_sequence: LM calls that the sequential program made.
    """

    program: Program
    sequential: float
    overlapped: float
    by_hand: float
    calls: int
    calls_in_sequence: int

    @property
    def speedup(self) -> float:
        """Over the sequential program."""
        return self.sequential / self.overlapped

    @property
    def against_hand(self) -> float:
        """Time against that of the program written by hand."""
        return self.overlapped / self.by_hand


def programs(quick: bool) -> list[Program]:
    """Those to measure."""
    return PROGRAMS[::6] if quick else PROGRAMS


async def measure(program: Program, server: LMServer, rounds: int, latency: float) -> Measured:
    """Run the three ways in turns, after a turn without latency for what is done once; in sequence once only."""
    if program.answers:
        server.configure(replies=[{"match": "", "fields": dict(program.answers)}])
    else:
        server.configure(replies=[])
    # A class each, as decorating the program's own would change the next measurement.
    sequential = async_module(type("Sequential", (program.module,), {}), engine="loop")()
    overlapped = async_module(type("Overlapped", (program.module,), {}), engine="loop", overlap=True)()
    by_hand: Any = program.by_hand()
    ways: dict[str, Callable[..., Awaitable[Any]]] = {
        "sequential": sequential.acall,
        "overlapped": overlapped.acall,
        "by hand": by_hand.acall,
    }
    found: dict[str, list[float]] = {way: [] for way in ways}
    calls: dict[str, int] = {}
    with dspy.context(lm=dspy.LM("openai/test-model", cache=False, **server.lm_kwargs())):
        for turn in range(rounds + 1):
            server.configure(latency=latency if turn else 0.0)
            for way, call in ways.items():
                if way == "sequential" and turn > 1:
                    continue  # its time is no secret, and takes the longest to measure
                before = server.stats().requests
                started = time.perf_counter()
                await call(**program.inputs)
                if turn:
                    found[way].append(time.perf_counter() - started)
                calls[way] = server.stats().requests - before
    server.configure(replies=[])
    medians = {way: statistics.median(times) for way, times in found.items()}
    counts = calls["overlapped"], calls["sequential"]
    return Measured(program, medians["sequential"], medians["overlapped"], medians["by hand"], *counts)


def show(measured: Iterable[Measured], latency: float) -> None:
    """Print the table, fastest first."""
    rows = [
        (
            each.program,
            f"{each.calls} of {each.calls_in_sequence}",
            f"{each.sequential:.2f} s",
            f"{each.overlapped:.2f} s",
            f"{each.by_hand:.2f} s",
            f"{each.speedup:.1f}x",
            f"{each.against_hand:.2f}",
        )
        for each in sorted(measured, key=lambda each: -each.speedup)
    ]
    header = ("program", "LM calls", "in sequence", "overlap", "by hand", "faster", "against by hand")
    table.show(f"Overlap, {latency:g} s for each LM call", header, rows)
    ratios = [float(row[-1]) for row in rows]
    print(f"Against by hand: median {statistics.median(ratios):.2f}, worst {max(ratios):.2f}.")


@dataclass(frozen=True)
class Virtual:
    """Seconds of one program on a clock that stands still while anybody computes.

    Attributes:
        program: The program.
        sequential: Its LM calls, one after the other.
        overlapped: With a scout ahead.
        by_hand: Written by hand.
    """

    program: Program
    sequential: float
    overlapped: float
    by_hand: float


def share(found: Iterable[Virtual]) -> float:
    """How much of the time that programs by hand win over sequential ones overlap wins, too."""
    found = list(found)
    return sum(each.sequential - each.overlapped for each in found) / sum(
        each.sequential - each.by_hand for each in found
    )


def forget_searches() -> None:
    """What `dspy.ColBERTv2` has found, so that it asks again."""
    dspy.cache.reset_memory_cache()
    dspy.cache.disk_cache.clear()


def on_virtual_clock(program: Program, latency: Latency = one_second) -> Virtual:
    """Run the three ways; what searches needs `searching()`. Only LM calls take time."""
    name = program.module.__name__
    ways = [async_module(type(name, (program.module,), {}), overlap=overlap) for overlap in (False, True)]
    seconds = []
    for cls in (*ways, program.by_hand):
        forget_searches()
        rm = dspy.ColBERTv2(url=os.environ.get("SEARCH_URL", ""))
        with known(cls), dspy.context(lm=TimedLM(program.answers, latency), rm=rm):
            seconds.append(run_virtual(cls().acall, **program.inputs)[1])
    return Virtual(program, *seconds)


def show_shares(corpus: str, found: Iterable[Virtual]) -> None:
    """Print what is won, the largest loss first, and the share of them all."""
    found = sorted(found, key=lambda each: each.by_hand - each.overlapped)
    rows = [
        (
            each.program,
            *(f"{seconds:g} s" for seconds in (each.sequential, each.overlapped, each.by_hand)),
            f"{share([each]):.0%}" if each.sequential > each.by_hand else "-",
        )
        for each in found
    ]
    header = ("program", "in sequence", "overlap", "by hand", "won")
    table.show(f"Overlap, {corpus}, 1 s for each LM call on a virtual clock", header, rows)
    print(f"Of the time that can be won, {share(found):.1%} is.")


@dataclass(frozen=True)
class Cost:
    """What a scout costs a program that has nothing to gain.

    Attributes:
        program: The program.
        wall: Time with a scout, against that without.
        cpu: The same of the process's CPU time.
    """

    program: Program
    wall: float
    cpu: float


SEQUENTIAL = ("reflexion", "multi-hop", "rolling summary", "least to most")
"""Programs each of whose calls needs the one before it."""


async def sequential_cost(server: LMServer, rounds: int, latency: float) -> list[Cost]:
    """Programs without any parallelism: with a scout against without, in turns."""
    costs = []
    server.configure(latency=latency)
    with dspy.context(lm=dspy.LM("openai/test-model", cache=False, **server.lm_kwargs())):
        for program in PROGRAMS:
            if program.name not in SEQUENTIAL:
                continue
            server.configure(replies=[{"match": "", "fields": dict(program.answers)}] if program.answers else [])
            ways: list[Any] = [
                async_module(type("Program", (program.module,), {}), engine="loop", overlap=overlap)()
                for overlap in (False, True)
            ]
            taken: list[list[tuple[float, float]]] = [[], []]
            for turn in range(rounds + 1):
                for which in (0, 1) if turn % 2 else (1, 0):
                    wall, cpu = time.perf_counter(), time.process_time()
                    await ways[which].acall(**program.inputs)
                    if turn:
                        taken[which].append((time.perf_counter() - wall, time.process_time() - cpu))
            # The median of the turns' ratios: what the machine does meanwhile, it does to both.
            ratios = [
                (ahead[0] / alone[0], ahead[1] / alone[1]) for alone, ahead in zip(taken[0], taken[1], strict=True)
            ]
            wall, cpu = (statistics.median(each) for each in zip(*ratios, strict=True))
            costs.append(Cost(program, wall, cpu))
    server.configure(replies=[])
    return costs


def show_cost(costs: Iterable[Cost], latency: float) -> None:
    """Print what the scout costs where it gains nothing."""
    rows = [(each.program, f"{each.wall:.3f}", f"{each.cpu:.2f}") for each in costs]
    table.show(f"Nothing to overlap, {latency:g} s for each LM call", ("program", "wall", "CPU"), rows)


class _Idle(dspy.Module):
    """Could call predictors, and calls none."""

    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")

    def forward(self, x: str) -> Any:
        if x:
            return dspy.Prediction(y=x)
        return [self.p(x=x), self.p(x=x + "!")]


async def idle(count: int) -> tuple[float, float]:
    """Seconds of a run without LM calls: bridged, and with a scout beside it."""
    seconds = []
    for overlap in (False, True):
        program: Any = async_module(type("Idle", (_Idle,), {}), engine="loop", overlap=overlap)()
        await program.acall(x="x")
        started = time.perf_counter()
        for _ in range(count):
            await program.acall(x="x")
        seconds.append((time.perf_counter() - started) / count)
    return seconds[0], seconds[1]
