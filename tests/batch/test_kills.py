"""kill -9 at a random moment, again and again, until the batch is done."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from tests.support.children import run_module

IN_FLIGHT = 16

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


@pytest.mark.once
def test_killed_again_and_again(tmp_path: Path) -> None:
    check(tmp_path, examples=200, kills=4)


@pytest.mark.stress
def test_killed_twenty_times(tmp_path: Path) -> None:
    check(tmp_path, examples=1000, kills=20)


def check(directory: Path, *, examples: int, kills: int) -> None:
    file = directory / "results.jsonl"
    numbers = [str(number) for number in (examples, IN_FLIGHT, kills, 7)]
    printed = run_module("tests.batch.killed", str(file), *numbers, timeout=280)
    *at_kills, requests, last = printed.splitlines()
    results, calls = json.loads(last), int(requests)

    # Every example has exactly one result, in the file and in the list: what it would have had without a kill.
    entries = [json.loads(line) for line in file.read_bytes().splitlines() if b'"result"' in line and _whole(line)]
    assert [count for count in Counter(entry["key"] for entry in entries).values() if count != 1] == []
    assert len(entries) == examples == len(results)
    assert results == results[: examples // 2] * 2
    assert len(set(results)) == examples // 2

    # A call is made again only if it was in flight at a kill.
    print(f"finished at the kills: {' '.join(at_kills)}; repeated calls: {calls - examples}")
    assert len(at_kills) == kills
    assert int(at_kills[-1]) < examples, "there was something left to do after the last kill"
    assert examples < calls <= examples + kills * IN_FLIGHT


def _whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
