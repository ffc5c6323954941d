"""Memory does not grow with the number of rows, with and without a resume file."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import iter_batch
from tests.support.children import run_module


class Alive:
    """How many of the objects that were noted are there still, and the most that there were at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def note(self, thing: Any) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(thing, self._gone)
        return thing

    def _gone(self) -> None:
        self.now -= 1


@pytest.mark.parametrize("resumed", [False, True])
def test_rows_and_results_are_let_go(tmp_path: Path, resumed: bool) -> None:
    inputs, results = Alive(), Alive()

    def rows() -> Iterator[Any]:
        for number in range(2000):
            yield inputs.note(dspy.Example(text=f"row {number}").with_inputs("text"))

    def program(text: str) -> Any:
        return results.note(dspy.Prediction(text=text))

    file = tmp_path / "rows.jsonl" if resumed else None
    items = iter_batch(program, rows(), max_in_flight=10, progress=False, resume=file)
    assert sum(item.result.text.startswith("row") for item in items) == 2000
    assert inputs.most <= 50
    assert results.most <= 50


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("resumed", [False, True])
def test_memory_is_flat_over_a_million_rows(tmp_path: Path, resumed: bool) -> None:
    file = [str(tmp_path / "rows.jsonl")] if resumed else []
    printed = run_module("tests.batch.flat", "1000000", *file, timeout=1700)
    print(printed)
    megabytes = [float(line.split()[1]) for line in printed.splitlines()]
    assert megabytes[-1] - megabytes[0] < 10
