"""What is promised of limits and connection pools. Run alone on the machine: `tox -e bench`."""

from __future__ import annotations

import asyncio
import importlib.util

import pytest

from benchmarks import limits, machine
from benchmarks.workload import start_server

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server():
    running = start_server(latency=0.05)
    machine.pin(running.pid)
    yield running
    running.stop()


async def test_nothing_is_lost_by_a_server_that_refuses(server):
    """It admits 50 at a time and 3,000 per minute."""
    count = 2000
    found = await asyncio.to_thread(limits.admission, server, count)
    limits.show_admission(found, count)
    plain, limited = found
    assert plain.lost > count / 2
    assert limited.lost == 0
    assert limited.share >= 0.9


@pytest.mark.skipif(importlib.util.find_spec("dspy.clients.execution") is None, reason="DSPy's engine came with 3.4")
async def test_two_thousand_calls_in_flight(server):
    """Of one second each, beside stock DSPy, whose pool holds 100."""
    count = 2000
    found = await asyncio.to_thread(limits.fan_out, server, count)
    limits.show_fan_out(found, count)
    stock, *ours = found
    for each in ours:
        assert each.peak >= 1900
        assert each.wall <= 1.3 * each.limit
        assert each.wall < stock.wall
