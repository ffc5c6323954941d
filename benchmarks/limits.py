"""What limits are for: a provider that refuses, and fan-outs wider than anybody's connection pool."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import dspy

from benchmarks import table
from benchmarks.workload import HandReason, Reason
from dspy_parallel import async_module, limit, seams
from dspy_parallel.testing import LMServer

__all__ = ["Admission", "FanOut", "admission", "fan_out", "show_admission", "show_fan_out"]


@dataclass(frozen=True)
class Admission:
    """One way through a provider that refuses."""

    name: str
    answered: int
    lost: int
    seconds: float
    refusals: int
    share: float
    """Of the throughput that the provider admits, counted in answers."""


@dataclass(frozen=True)
class FanOut:
    """One way to have many calls in flight."""

    name: str
    wall: float
    peak: int
    limit: float
    """Latency + calls × CPU of a sync call, measured before and after."""


def _bridged() -> Any:
    return async_module(type("Reason", (Reason,), {}), engine="loop")()


def _lm(server: LMServer) -> Any:
    return dspy.LM("openai/any", cache=False, **server.lm_kwargs())


async def _all(call: Callable[..., Awaitable[Any]], lm: Any, count: int) -> tuple[list[Any], float]:
    began = time.monotonic()
    with dspy.context(lm=lm):
        results = await asyncio.gather(*(call(document=f"text {n}") for n in range(count)), return_exceptions=True)
    took = time.monotonic() - began
    if hasattr(lm, "aclose"):
        await lm.aclose()
    return results, took


def admission(server: LMServer, count: int = 2000, at_a_time: int = 50, latency: float = 1.0) -> list[Admission]:
    """`count` calls to a server that admits 50 at a time and 3,000 per minute; without a limit, and with one."""
    per_minute = round(at_a_time * 60 / latency)
    found = []
    for name, limited in (("without limit()", False), ("limit()", True)):
        server.restore()
        server.configure(max_concurrency=at_a_time, requests_per_minute=per_minute, latency=latency)
        lm = _lm(server)
        if limited:
            limit(lm, max_in_flight=at_a_time, requests_per_minute=per_minute)
        results, took = asyncio.run(_all(_bridged().acall, lm, count))
        answered = sum(not isinstance(result, BaseException) for result in results)
        stats = server.stats()
        best = count * latency / at_a_time  # with every place taken all the time
        share = answered / count * best / took
        found.append(Admission(name, answered, count - answered, took, sum(stats.rejected.values()), share))
    return found


def fan_out(server: LMServer, count: int = 2000, latency: float = 1.0, sync_calls: int = 200) -> list[FanOut]:
    """`count` calls, all at once: stock DSPy's hand-written gather, and the bridge with its pools."""

    def cpu_of_sync_call(program: Any, lm: Any) -> float:
        server.configure(latency=0.0)
        with dspy.context(lm=lm):
            program(document="warm up")
            before = time.process_time()
            for n in range(sync_calls):
                program(document=f"sync {n}")
        return (time.process_time() - before) / sync_calls

    ways: tuple[tuple[str, Callable[[], Any], bool], ...] = (
        ("hand-written gather, stock DSPy", HandReason, False),
        ("bridged", _bridged, False),
        ("bridged, limit(max_in_flight)", _bridged, True),
    )
    found = []
    for name, make, limited in ways:
        program, lm = make(), _lm(server)
        if make is HandReason:
            seams.uninstall()
        else:
            seams.install()
        if limited:
            limit(lm, max_in_flight=count)
        server.restore()
        before = cpu_of_sync_call(program, lm)
        server.configure(latency=latency)
        server.reset_stats()
        results, wall = asyncio.run(_all(program.acall, lm, count))
        assert not [result for result in results if isinstance(result, BaseException)]
        peak = server.stats().peak_in_flight
        found.append(FanOut(name, wall, peak, latency + count * (before + cpu_of_sync_call(program, lm)) / 2))
    return found


def show_admission(found: list[Admission], count: int) -> None:
    """Print what got through."""
    rows = [
        (each.name, each.answered, each.lost, each.refusals, f"{each.seconds:.1f} s", f"{each.share:.0%}")
        for each in found
    ]
    titles = ("", "answered", "lost", "refused with 429", "took", "of the throughput admitted")
    table.show(f"{count:,} calls to a server that admits 50 at a time, and per minute what these can do", titles, rows)


def show_fan_out(found: list[FanOut], count: int) -> None:
    """Print how wide it got."""
    rows = [
        (each.name, f"{each.wall:.1f} s", each.peak, f"{each.limit:.1f} s", f"{each.wall / each.limit:.2f}")
        for each in found
    ]
    titles = ("", "took", "peak at the server", "1 s + calls × CPU of a sync call", "ratio")
    table.show(f"{count:,} calls of 1 s at once", titles, rows)
