"""The main tables: every contender, with 1 to 1,000 runs in flight, cold and cached, on each of DSPy's engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from benchmarks import table
from benchmarks.contenders import BASELINE, CONTENDERS, Run, make
from benchmarks.measure import Sample, ratio, rounds
from benchmarks.workload import WORKLOADS, Stub, Workload, documents, engines, make_lm
from dspy_parallel.testing import LMServer

__all__ = ["Case", "cases", "measure", "show"]

SLOW = {"sequential sync": 10, "dspy.asyncify": 100}
"""Contenders that are left out above this number in flight: they take minutes, in proportion to it."""


@dataclass(frozen=True)
class Case:
    """One table: a program, an LM and a number in flight."""

    workload: str
    engine: str
    """`"stub"`, `"native"` or `"litellm"`."""
    cached: bool
    in_flight: int
    rounds: int = 5

    @property
    def title(self) -> str:
        state = "" if self.engine == "stub" else ", cached" if self.cached else ", cold"
        return f"{self.workload}, {self.engine} LM{state}, {self.in_flight:,} in flight"


def cases(quick: bool) -> list[Case]:
    """What one command measures."""
    if quick:
        return [Case("extract", "stub", False, n, 3) for n in (1, 100)] + [
            Case("extract", engine, cached, 20, 2) for engine in engines() for cached in (False, True)
        ]
    found = [Case("extract", "stub", False, n, 5) for n in (1, 10, 100, 1000)]
    for engine in engines():
        for cached in (False, True):
            found += [Case("extract", engine, cached, n, 3) for n in (1, 10, 100)]
            found.append(Case("extract", engine, cached, 1000, 1 if engine == "litellm" and not cached else 2))
    found += [Case(name, engines()[0], False, 100, 3) for name in ("reason", "agent")]
    return found


def _names(case: Case) -> list[str]:
    return [name for name in CONTENDERS if case.in_flight <= SLOW.get(name, 10**9)]


async def measure(
    case: Case, server: LMServer | None, latency: float, names: Sequence[str] = ()
) -> dict[str, list[Sample]]:
    """Samples of each contender that takes part.

    Args:
        case: What to measure.
        server: The LM server; a stub needs none.
        latency: Seconds from request to reply.
        names: The contenders; by default all that the number in flight allows.
    """
    dspy.configure_cache(enable_disk_cache=False)
    lm: Any
    if case.engine == "stub":
        lm = Stub(latency)
    else:
        assert server is not None
        server.configure(latency=latency)
        lm = make_lm(server, case.engine)
    work: Workload = WORKLOADS[case.workload]
    runs: dict[str, Run] = {name: make(name, work, lm) for name in names or _names(case)}
    new = documents(case.title)
    # Few in flight take little time: run more batches, so that there is something to measure.
    batches = max(1, 10 // case.in_flight)
    known = [new(case.in_flight) for _ in range(batches)]
    for run in runs.values():
        # Pools, promotion to the loop, first uses; the cache, for each side's own keys.
        for batch in known if case.cached else [new(min(case.in_flight, 100)) for _ in range(-(-6 // case.in_flight))]:
            await run(batch)
    return await rounds(
        case.rounds,
        runs,
        lambda: known if case.cached else [new(case.in_flight) for _ in range(batches)],
        _peak_of(lm, server),
    )


def _peak_of(lm: Any, server: LMServer | None) -> Callable[[], int]:
    def of_stub() -> int:
        peak, lm.peak = lm.peak, 0
        return int(peak)

    def of_server() -> int:
        assert server is not None
        peak = server.stats().peak_in_flight
        server.reset_stats()
        return peak

    return of_stub if isinstance(lm, Stub) else of_server


def show(case: Case, samples: dict[str, list[Sample]]) -> None:
    """Print the table: ratios to the hand-written program, and what the server saw."""
    base = samples[BASELINE]
    rows = []
    for name, own in samples.items():
        rows.append(
            (
                name,
                ratio([s.wall for s in own], [s.wall for s in base]),
                ratio([s.cpu for s in own], [s.cpu for s in base]),
                f"{max(s.memory for s in own) / 1e6:.1f} MB",
                max(s.peak for s in own),
            )
        )
    for name, most in SLOW.items():
        if name not in samples and case.in_flight > most:
            rows.append((name, f"left out above {most}", "", "", ""))
    table.show(
        case.title, ("", "wall, × hand-written", "CPU per run, × hand-written", "peak memory", "peak at the LM"), rows
    )
