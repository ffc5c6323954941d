"""What is promised about speed, as ratios taken side by side. Run alone on the machine: `tox -e bench`."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from benchmarks import blocking, heartbeat, in_flight, machine
from benchmarks.contenders import BASELINE
from benchmarks.in_flight import Case
from benchmarks.measure import Sample, ratio
from benchmarks.suspended import suspended
from benchmarks.workload import engines, start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

OURS = "ours, loop"
ROUNDS = {1: 15, 100: 9, 1000: 3}
"""Rounds for each number in flight."""


@pytest.fixture(scope="module")
def server():
    running = start_server(latency=0.05)
    machine.pin(running.pid)
    yield running
    running.stop()


def _print(title: str, samples: dict[str, list[Sample]]) -> tuple[float, float]:
    base = samples[BASELINE]
    found = {}
    for name, own in samples.items():
        wall = ratio([s.wall for s in own], [s.wall for s in base])
        cpu = ratio([s.cpu for s in own], [s.cpu for s in base])
        found[name] = wall.median, cpu.median
        print(f"\n{title}: {name}: wall {wall}, CPU {cpu}, peak in flight {max(s.peak for s in own)}", end="")
    return found[OURS]


@pytest.mark.parametrize("in_flight_now", ROUNDS)
@pytest.mark.parametrize("engine", engines())
async def test_as_fast_as_hand_written(server, engine, in_flight_now):
    case = Case("extract", engine, cached=False, in_flight=in_flight_now, rounds=ROUNDS[in_flight_now])
    wall, cpu = _print(case.title, await in_flight.measure(case, server, 0.05, [BASELINE, OURS]))
    assert wall <= 1.05
    assert cpu <= 1.05


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


@pytest.mark.parametrize("when", ["after", "before"])
async def test_auto_is_no_slower_than_threads_for_a_program_that_blocks(when):
    seconds = await blocking.first_runs(when, 200, 9)
    found = blocking.against_threads(seconds, "ours, auto")
    print(f"\nblocks {when}: auto {found} × threads", end="")
    assert found.median <= 1.05


async def test_auto_has_a_clean_program_on_the_loop_by_its_second_batch():
    assert await blocking.batches_until_loop(200) == (1, True)


async def test_memory_in_flight_is_less_than_with_threads():
    ours, threads = [await asyncio.to_thread(suspended, name, 1000) for name in (OURS, "threads, one per run")]
    print(ours, threads)
    assert ours.bytes_each < threads.bytes_each
