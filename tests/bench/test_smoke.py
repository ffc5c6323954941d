"""The benchmarks run, count right and notice what they are to notice. No times are looked at."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from benchmarks import in_flight, limits
from benchmarks.blocking import SIDES, first_peak, first_runs
from benchmarks.contenders import BASELINE, CONTENDERS, make
from benchmarks.heartbeat import beside_computing, heartbeat
from benchmarks.measure import ratio, rounds
from benchmarks.workload import WORKLOADS, Gate, Stub, documents, start_server
from dspy_parallel.testing import LMServer


def test_ratio_compares_round_by_round():
    found = ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)


@pytest.mark.parametrize("name", CONTENDERS)
async def test_every_contender_runs_each_document_once(name):
    lm = Stub()
    calls: list[int] = []
    lm._enter = calls.append  # type: ignore[method-assign]
    await make(name, WORKLOADS["extract"], lm)(documents("smoke")(5))
    assert calls.count(1) == 5 * 2


@pytest.mark.parametrize("name", [BASELINE, "ours, loop", "ours, auto", "ours, thread"])
async def test_all_are_in_flight_at_once(name):
    """The gate opens only when 50 LM calls wait at it together, on either engine."""
    gate = Gate(50)
    runs = asyncio.create_task(make(name, WORKLOADS["extract"], gate)(documents("gate")(50)))  # type: ignore[arg-type]
    await asyncio.to_thread(gate.full.wait, 60)
    gate.open()
    await runs
    assert gate.peak == 50


async def test_a_round_has_a_sample_of_each_side():
    lm = Stub()
    runs = {name: make(name, WORKLOADS["extract"], lm) for name in (BASELINE, "ours, loop")}
    new = documents("rounds")
    samples = await rounds(2, runs, lambda: [new(3)], lambda: 0)
    assert {name: len(own) for name, own in samples.items()} == {BASELINE: 2, "ours, loop": 2}
    assert all(sample.wall > 0 and sample.cpu > 0 for own in samples.values() for sample in own)


async def test_programs_and_their_hand_written_twins_make_equal_calls(capsys):
    server = start_server(latency=0.0)
    try:
        for workload in WORKLOADS:
            case = in_flight.Case(workload, in_flight.engines()[0], cached=False, in_flight=3, rounds=1)
            counts = []
            for name in (BASELINE, "ours, loop"):
                server.reset_stats()
                await in_flight.measure(case, server, 0.0, [name])
                counts.append(server.stats().requests)
            # measure() resets the statistics before each sample.
            assert counts[0] == counts[1]
    finally:
        server.stop()


async def test_the_heartbeat_notices_a_blocked_loop():
    import time

    async with heartbeat() as late:
        await asyncio.sleep(0.03)
        time.sleep(0.2)
    assert max(late) > 0.1


async def test_the_heartbeat_beside_a_program_that_computes():
    found = await beside_computing(0.001, 2, 1)
    assert [len(samples) for samples in found.values()] == [1, 1]


def test_blocking_programs_are_run_by_each_side_and_a_clean_one_has_all_in_flight():
    found = first_runs(0.001, 0.0, 10, 20, 1)
    assert [len(seconds) for seconds in found.values()] == [1] * len(SIDES)
    assert first_peak(20) == 20


async def test_langgraph_contenders_make_one_call_in_each_node():
    langgraph_fanout = pytest.importorskip("benchmarks.langgraph_fanout", exc_type=ImportError)
    lm = Stub()
    calls: list[int] = []
    lm._enter = calls.append  # type: ignore[method-assign]
    turns = await langgraph_fanout.fan_out(lm, 5, 1)
    assert {langgraph_fanout.BY_HAND, langgraph_fanout.SERIAL, *langgraph_fanout.OURS.values()} < set(turns)
    assert calls.count(1) == 2 + len(turns) * 2 * 5  # two to warm up; each runs twice


@pytest.mark.once
def test_a_limit_loses_nothing():
    server = start_server(latency=0.0)
    try:
        plain, limited = limits.admission(server, 60, at_a_time=5, latency=0.2)
    finally:
        server.stop()
    assert (plain.answered + plain.lost, limited.answered, limited.lost) == (60, 60, 0)
    assert plain.refusals > 0
    assert 0 < limited.share <= 1


def test_a_fan_out_has_its_three_ways(capsys):
    server = start_server(latency=0.0)
    try:
        found = limits.fan_out(server, 20, latency=0.5, sync_calls=5)
    finally:
        server.stop()
    assert all(1 < each.peak <= 20 and each.limit > 0.5 for each in found)
    limits.show_fan_out(found, 20)
    shown = capsys.readouterr().out
    assert all(each.name in shown for each in found)
    assert len(found) == 3


@pytest.mark.once
async def test_the_situations_of_the_readme_are_measured_on_both_sides():
    situations = pytest.importorskip("benchmarks.situations", exc_type=ImportError)
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        found = await situations.measure(server, scale=0.05, rounds=1)
    assert list(found) == ["3 async nodes", "12 sync nodes", "dspy.asyncify"]
    assert all(len(both) == 2 for both in found.values())
