"""`python -m benchmarks`: every table, from one run. See docs/benchmarks.md."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

from benchmarks import blocking, heartbeat, in_flight, limits, machine, overlap, recording, suspended
from benchmarks.contenders import BASELINE
from benchmarks.overlap_programs import CORPORA
from benchmarks.overlap_programs.everyday.search_server import searching
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
            _progress(started, "heartbeat, a program that computes")
            seconds, few = (0.02, 10) if quick else (0.2, 50)
            late = await heartbeat.beside_computing(seconds, few, 1 if quick else 3)
            heartbeat.show(f"beside {few} runs that compute {seconds * 1e3:.0f} ms between two calls", late)
            if not quick:
                _progress(started, "heartbeat, first import of LiteLLM")
                samples = await asyncio.to_thread(heartbeat.first_import, server.api_base, count, 2)
                heartbeat.show(f"beside {count} runs, while LiteLLM is imported", samples)
        if "blocking" in parts:
            for latency in (0.1, 0.01):
                _progress(started, f"blocking for 10 ms, LM {latency} s")
                count = 200 if quick else 1000
                found = await asyncio.to_thread(blocking.first_runs, 0.01, latency, 100, count, 1 if quick else 5)
                blocking.show(0.01, latency, 100, count, found)
            peak = await asyncio.to_thread(blocking.first_peak, 50)
            print(f"The first batch of a clean program, of 50, had {peak} calls in flight at once.")
        if "suspended" in parts:
            _progress(started, "suspended")
            everybody = [BASELINE, "ours, loop", "ours, thread", "threads, one per run"]
            await asyncio.to_thread(suspended.show, 200 if quick else 1000, everybody)
            server.configure(latency=0.5)
            many = 200 if quick else 1000
            memory = {
                name: await asyncio.to_thread(suspended.grown, name, many, server.api_base) for name in everybody[:3]
            }
            shown = ", ".join(f"{name} {size / memory[BASELINE]:.2f}" for name, size in memory.items())
            print(f"Memory of {many:,} runs with a real LM, × hand-written: {shown}.")
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
        from benchmarks import graph_overlap, langgraph_fanout
    except ImportError:
        print("\nWithout LangGraph (pip install 'dspy-parallel[langgraph]'), the part langgraph is left out.")
        return
    server.configure(latency=langgraph_fanout.BLOCK_SECONDS)
    lm = make_lm(server, engines()[0])
    await langgraph_fanout.tables(server, {engines()[0]: lm}, quick=quick, progress=progress)
    server.configure(latency=graph_overlap.LATENCY)
    await graph_overlap.tables(lm, quick=quick, progress=progress)


def _shares(progress: Callable[[str], None]) -> None:
    for corpus, programs in CORPORA.items():
        progress(f"overlap, {corpus}, on a virtual clock")
        with searching(), contextlib.redirect_stdout(io.StringIO()):
            found = [overlap.on_virtual_clock(program) for program in programs]
        overlap.show_shares(corpus, found)


async def _overlap(server: LMServer, quick: bool, progress: Callable[[str], None]) -> None:
    await asyncio.to_thread(_shares, progress)
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
