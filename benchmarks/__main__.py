"""`python -m benchmarks`: every table, from one run. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from benchmarks import blocking, heartbeat, in_flight, limits, machine, overlap, recording, suspended
from benchmarks.contenders import BASELINE
from benchmarks.workload import engines, make_lm, start_server
from dspy_parallel.testing import LMServer

PARTS = ("in_flight", "heartbeat", "blocking", "suspended", "langgraph", "overlap", "limits", "recording")


def _progress(started: float, text: str) -> None:
    print(f"[{time.monotonic() - started:5.0f} s] {text}", file=sys.stderr, flush=True)


async def _run(parts: list[str], *, quick: bool, pinned: bool) -> None:
    started = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    server = start_server(latency=0.05)
    try:
        print(f"Python {platform.python_version()}, DSPy {version('dspy')}, {cores} cores; ", end="")
        print(machine.pin(server.pid) if pinned else "not pinned")
        if "in_flight" in parts:
            for case in in_flight.cases(quick):
                _progress(started, case.title)
                in_flight.show(case, await in_flight.measure(case, server, 0.02 if case.engine == "stub" else 0.05))
        if "heartbeat" in parts:
            server.configure(latency=0.05)
            count = 50 if quick else 200
            for engine in engines():
                _progress(started, f"heartbeat, {engine}")
                samples = await heartbeat.beside(server, engine, count, 1 if quick else 3)
                heartbeat.show(f"beside {count} runs, {engine} LM", samples)
            if not quick:
                _progress(started, "heartbeat, first import of LiteLLM")
                samples = await asyncio.to_thread(heartbeat.first_import, server.api_base, count, 2)
                heartbeat.show(f"beside {count} runs, while LiteLLM is imported", samples)
        if "blocking" in parts:
            count = 50 if quick else 200
            for when in ("after", "before"):
                _progress(started, f"blocking {when}")
                blocking.show(when, count, await blocking.first_runs(when, count, 1 if quick else 3))
            batches, alone = await blocking.batches_until_loop(count)
            print(f"A clean program was on the loop after batch {batches}; the next batch used the loop only: {alone}.")
        if "suspended" in parts:
            _progress(started, "suspended")
            everybody = [BASELINE, "ours, loop", "ours, thread", "threads, one per run"]
            await asyncio.to_thread(suspended.show, 200 if quick else 1000, everybody)
            if not quick:
                await asyncio.to_thread(suspended.show, 10_000, [BASELINE, "ours, loop"])
        if "langgraph" in parts:
            await _langgraph(server, quick, partial(_progress, started))
        if "overlap" in parts:
            await _overlap(server, quick, partial(_progress, started))
        if "limits" in parts:
            await asyncio.to_thread(_limits, server, quick, partial(_progress, started))
        if "recording" in parts:
            _progress(started, "recording")
            await recording.tables(server, quick=quick)
        _progress(started, "done")
    finally:
        server.stop()


def _limits(server: LMServer, quick: bool, progress: Callable[[str], None]) -> None:
    count = 200 if quick else 2000
    progress("limits: fan-out")
    limits.show_fan_out(limits.fan_out(server, count), count)
    progress("limits: a server that refuses")
    limits.show_admission(limits.admission(server, count, latency=0.1 if quick else 1.0), count)


async def _langgraph(server: LMServer, quick: bool, progress: Callable[[str], None]) -> None:
    try:
        from benchmarks import langgraph_fanout
    except ImportError:
        print("\nWithout LangGraph (pip install 'dspy-parallel[langgraph]'), the part langgraph is left out.")
        return
    server.configure(latency=langgraph_fanout.BLOCK_SECONDS)
    lm = make_lm(server, engines()[0])
    await langgraph_fanout.tables(server, {engines()[0]: lm}, quick=quick, progress=progress)


async def _overlap(server: LMServer, quick: bool, progress: Callable[[str], None]) -> None:
    latency = 0.1 if quick else 0.25
    measured = []
    for program in overlap.programs(quick):
        progress(f"overlap, {program}")
        measured.append(await overlap.measure(program, server, 1 if quick else 2, latency))
    progress("overlap, where there is nothing to gain")
    costs = await overlap.sequential_cost(server, 2 if quick else 5, latency)
    overlap.show(measured, latency)
    overlap.show_cost(costs, latency)
    alone, beside = await overlap.idle(200)
    print(f"A run without LM calls: {alone * 1e6:.0f} us, {beside * 1e6:.0f} us with overlap.")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Prints tables of ratios from one run.")
    parser.add_argument("--quick", action="store_true", help="under a minute, and noisy")
    parser.add_argument("--no-pin", action="store_true", help="leave placement on cores to the system")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; default: all")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    asyncio.run(_run(given.parts or list(PARTS), quick=given.quick, pinned=not given.no_pin))


if __name__ == "__main__":
    main()
