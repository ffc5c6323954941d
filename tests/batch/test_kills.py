"""kill -9 at a random moment, twenty times in a row, until the batch is done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from dspy_parallel.testing import LMServer

EXAMPLES, IN_FLIGHT, KILLS = 1000, 16, 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_killed_twenty_times(lm_server: LMServer, tmp_path: Path) -> None:
    lm_server.configure(latency=0.04)
    file = tmp_path / "results.jsonl"
    numbers = [str(number) for number in (EXAMPLES, IN_FLIGHT, KILLS, 7)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.batch.killed", lm_server.api_base, str(file), *numbers],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *kills, last = done.stdout.splitlines()
    results = json.loads(last)

    # Every example has exactly one result, in the file and in the list: what it would have had without a kill.
    entries = [json.loads(line) for line in file.read_bytes().splitlines() if b'"result"' in line and _whole(line)]
    assert [count for count in Counter(entry["key"] for entry in entries).values() if count != 1] == []
    assert len(entries) == EXAMPLES == len(results)
    assert results == results[: EXAMPLES // 2] * 2
    assert len(set(results)) == EXAMPLES // 2

    # A call is made again only if it was in flight at a kill.
    calls = lm_server.stats().requests
    print(f"finished at the kills: {' '.join(kills)}; repeated calls: {calls - EXAMPLES}")
    assert len(kills) == KILLS
    assert int(kills[-1]) < EXAMPLES, "there was something left to do after the last kill"
    assert EXAMPLES < calls <= EXAMPLES + KILLS * IN_FLIGHT


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
