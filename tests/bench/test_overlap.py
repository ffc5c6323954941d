"""What is promised about overlap, as ratios taken side by side. Run alone on the machine: `tox -e bench`."""

from __future__ import annotations

import statistics

import pytest

from benchmarks import machine, overlap
from benchmarks.workload import start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


async def test_overlapped_programs_are_as_fast_as_by_hand():
    server = start_server(latency=0.25)
    try:
        machine.pin(server.pid)
        measured = [await overlap.measure(program, server, 2, 0.25) for program in overlap.programs(quick=False)]
    finally:
        server.stop()
    overlap.show(measured, 0.25)
    assert all(each.calls == each.calls_in_sequence for each in measured)
    assert statistics.median(each.against_hand for each in measured) <= 1.05
    assert max(each.against_hand for each in measured) <= 1.15


async def test_a_scout_without_anything_to_gain_costs_nothing():
    """Each of whose calls needs the one before it: no more than 2 % of the time."""
    server = start_server(latency=0.25)
    try:
        machine.pin(server.pid)
        costs = await overlap.sequential_cost(server, 5, 0.25)
    finally:
        server.stop()
    overlap.show_cost(costs, 0.25)
    assert statistics.median(each.wall for each in costs) <= 1.02
    assert max(each.wall for each in costs) <= 1.03


async def test_a_forward_without_calls_costs_less_than_a_millisecond():
    alone, beside = await overlap.idle(200)
    print(f"{alone * 1e6:.0f} us, {beside * 1e6:.0f} us with overlap")
    assert beside - alone < 0.001
