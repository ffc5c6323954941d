"""Recording is cheap, and free when it is off."""

from __future__ import annotations

import pytest

from benchmarks import recording
from benchmarks.workload import engines, start_server


@pytest.mark.bench
@pytest.mark.timeout(600)
@pytest.mark.skipif("native" not in engines(), reason="the promise is about DSPy's native engine, from 3.4 on")
@pytest.mark.parametrize("way", recording.WAYS)
async def test_recording_costs_at_most_three_per_cent_of_cpu(way):
    server = start_server(latency=0.005)
    try:
        found = recording.show(way, "native", await recording.measure(server, "native", way, *recording.ROUNDS[way]))
    finally:
        server.stop()
    assert found[recording.ON].median <= 1.03


async def test_a_round_has_a_sample_of_each_side(capsys):
    server = start_server(latency=0.0)
    try:
        samples = await recording.measure(server, engines()[0], "ours, loop", 2, 3)
    finally:
        server.stop()
    assert {name: len(own) for name, own in samples.items()} == dict.fromkeys(recording.SIDES, 2)
    recording.show("ours, loop", engines()[0], samples)
    assert "record()" in capsys.readouterr().out
