"""What is promised about speed, as ratios taken side by side. Run alone on the machine: `tox -e bench`."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from benchmarks import blocking, heartbeat, in_flight, machine
from benchmarks.contenders import BASELINE
from benchmarks.in_flight import Case
from benchmarks.measure import ratio
from benchmarks.suspended import grown, suspended
from benchmarks.workload import engines, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

OURS = "ours, loop"
MOST = {"ours, loop": dict.fromkeys(engines(), 1.0), "ours, thread": {"native": 1.10, "litellm": 1.15}}
"""How often what hand-written code takes, of wall and of CPU time."""
ROUNDS = {1: 15, 10: 15, 100: 9, 1000: 3}
"""Rounds for each number in flight."""


@pytest.fixture(scope="module")
def server():
    running = start_server(latency=0.05)
    machine.pin(running.pid)
    yield running
    running.stop()


@pytest.mark.parametrize("in_flight_now", ROUNDS)
@pytest.mark.parametrize("engine", engines())
async def test_as_fast_as_hand_written(server, engine, in_flight_now):
    case = Case("extract", engine, cached=False, in_flight=in_flight_now, rounds=ROUNDS[in_flight_now])
    samples = await in_flight.measure(case, server, 0.05, [BASELINE, *MOST])
    missed, base = [], samples[BASELINE]
    for name, most in MOST.items():
        for what in ("wall", "cpu"):
            found = ratio([getattr(s, what) for s in samples[name]], [getattr(s, what) for s in base])
            print(f"\n{case.title}: {name}: {what} {found}", end="")
            if found.median > most[engine] + 0.05:
                missed.append((name, what, found.median))
    assert missed == []


@pytest.mark.parametrize("in_flight_now", [100, 1000])
async def test_lm_concurrency_is_the_same_in_threads(in_flight_now):
    """All LM calls wait at a gate that opens when the last one has arrived."""
    seen = await asyncio.to_thread(suspended, "ours, thread", in_flight_now)
    assert seen.peak == in_flight_now


async def test_ten_thousand_in_flight_in_one_process():
    seen = await asyncio.to_thread(suspended, OURS, 10_000)
    print(seen)
    assert seen.peak == 10_000
    assert seen.threads <= 1  # the one that looks out for blocked loops


def _late(samples: dict[str, list[heartbeat.Lateness]], what: str) -> float:
    base = statistics.median(getattr(s, what) for s in samples[BASELINE])
    for name, own in samples.items():
        print(f"\nheartbeat {what}, {name}: × {statistics.median(getattr(s, what) for s in own) / base:.2f}", end="")
    return max(statistics.median(getattr(s, what) for s in samples[name]) / base for name in samples)


@pytest.mark.parametrize("engine", engines())
async def test_the_loop_stays_free(server, engine):
    server.configure(latency=0.05)
    samples = await heartbeat.beside(server, engine, 200, 9)
    assert _late(samples, "mean") <= 1.2
    assert _late(samples, "worst") <= 1.2


async def test_the_loop_stays_free_while_litellm_is_imported(server):
    server.configure(latency=0.05)
    samples = await asyncio.to_thread(heartbeat.first_import, server.api_base, 200, 5)
    assert _late(samples, "mean") <= 1.2
    assert _late(samples, "worst") <= 1.2


async def test_computing_holds_up_nobody_for_longer_than_in_threads():
    samples = await heartbeat.beside_computing(0.2, 50, 5)
    late = [statistics.median(each.mean for each in samples[name]) for name in samples]
    print(f"\nheartbeat beside computing: {late[1] / late[0]:.2f} × threads", end="")
    assert late[1] <= 1.1 * late[0]


def test_auto_is_no_slower_than_threads_for_a_program_that_blocks():
    seconds = blocking.first_runs(0.01, 0.1, 100, 1000, 9)
    found = {name: ratio(own, seconds[blocking.POOL]) for name, own in seconds.items()}
    print(*(f"\n{name}: {each} × plain threads" for name, each in found.items()))
    assert found["ours: batch()"].median <= 1.1
    assert found["ours: Evaluate"].median <= 1.1


def test_a_clean_program_has_all_in_flight_in_its_first_batch():
    assert blocking.first_peak(50) == 50


async def test_memory_in_threads_is_that_of_hand_written_code(server):
    server.configure(latency=0.5)
    hand, ours = [await asyncio.to_thread(grown, name, 1000, server.api_base) for name in (BASELINE, "ours, thread")]
    print(f"\nmemory of 1,000 runs in threads: {ours / hand:.2f} × hand-written", end="")
    assert ours <= 1.15 * hand


async def test_memory_in_flight_is_less_than_with_threads():
    ours, threads = [await asyncio.to_thread(suspended, name, 1000) for name in (OURS, "threads, one per run")]
    print(ours, threads)
    assert ours.bytes_each < threads.bytes_each
