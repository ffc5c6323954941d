"""Two Ray workers on two cores against one process, in one run. Alone on the machine: `tox -e ray`."""

from __future__ import annotations

import os

import pytest

pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(600)]


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core")
def test_two_workers_carry_nearly_twice_as_much() -> None:
    pytest.importorskip("ray")
    from benchmarks.measure import ratio
    from benchmarks.ray import measure

    one, two = zip(*measure(2, 5000, 5), strict=True)
    found = ratio(two, one)
    print(f"\none process: {one} rows/s; two workers: {two}; ratio {found}")
    assert found.median >= 1.7
