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
