"""One process against Ray workers, with a stub LM inside each process, so that no server takes the cores.

    python -m benchmarks.ray [WORKERS [ROWS [ROUNDS]]]

What is measured is what a process can carry: the stub answers after a moment of waiting that costs nothing, so that
cores are busy with DSPy and with us. One process runs `batch()` before Ray starts and again after it has ended, round
after round. Ray is measured while all of its workers are at work, by the calls that the stubs note: to start one takes
seconds, once.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import dspy
import ray
from litellm import ModelResponse

from benchmarks import table
from benchmarks.measure import ratio
from dspy_parallel import batch
from dspy_parallel.ray import map_dataset
from dspy_parallel.ray.ledger import Ledger

IN_FLIGHT = 100
LATENCY = 0.05


class Stub(dspy.BaseLM):
    """Always the same answer; notes how often its process has been asked, every tenth of a second."""

    def __init__(self, directory: str | None = None) -> None:
        super().__init__("stub", cache=False)
        self.directory = directory
        self.noted = 0.0
        self.calls = 0

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> ModelResponse:
        await asyncio.sleep(LATENCY)
        self.calls += 1
        if self.directory is not None and time.time() - self.noted > 0.1:
            self._note()
        content = "[[ ## answer ## ]]\nfour\n\n[[ ## completed ## ]]"
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        return ModelResponse(choices=[{"message": {"content": content}, "finish_reason": "stop"}], usage=usage)

    def _note(self) -> None:
        self.noted = time.time()
        with Path(str(self.directory), f"{os.getpid()}.json").open("a", encoding="utf-8") as notes:
            notes.write(f"[{self.noted}, {self.calls}]\n")


class Ask(dspy.Module):
    """One predictor."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


def questions(count: int) -> list[dict[str, str]]:
    return [{"question": f"What is {number} + {number}?"} for number in range(count)]


def alone(count: int) -> float:
    """Rows per second of one process."""
    with dspy.context(lm=Stub()):
        batch(Ask(), questions(200), max_in_flight=IN_FLIGHT, progress=False)
        started = time.perf_counter()
        assert len(batch(Ask(), questions(count), max_in_flight=IN_FLIGHT, progress=False)) == count
        return count / (time.perf_counter() - started)


def together(workers: int, count: int) -> float:
    """Rows per second of all workers, while all of them were at work."""
    with tempfile.TemporaryDirectory() as directory, dspy.context(lm=Stub(directory)):
        rows = ray.data.from_items(questions(count), override_num_blocks=max(workers * 8, count // 500))
        found = map_dataset(rows, Ask(), concurrency=workers, max_in_flight=IN_FLIGHT, progress=False, num_cpus=1)
        assert found.count() == count
        files = [file.read_text(encoding="utf-8").splitlines() for file in Path(directory).glob("*.json")]
    assert len(files) == workers, f"only {len(files)} workers had rows"
    seen = [[json.loads(line) for line in lines] for lines in files]
    start, end = max(notes[0][0] for notes in seen), min(notes[-1][0] for notes in seen)
    assert end - start > 1, "the workers were hardly at work at the same time"
    rates = []
    for notes in seen:
        (since, before), *_, (until, after) = [(when, calls) for when, calls in notes if start <= when <= end]
        rates.append((after - before) / (until - since))
    return sum(rates)


def measure(workers: int = 2, count: int = 6000, rounds: int = 3) -> list[tuple[float, float]]:
    """Rows per second of one process and of so many workers, in turn."""
    found = []
    before = alone(count // 2)
    for _ in range(rounds):
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        ray.data.DataContext.get_current().enable_progress_bars = False
        try:
            # Enough for all: the first worker must not be done before the last one is there.
            ours = together(workers, count * workers)
        finally:
            ray.shutdown()
        after = alone(count // 2)
        found.append(((before + after) / 2, ours))
        before = after
    return found


def ledger_rate(rows_at_a_time: int = 10, messages: int = 2000) -> float:
    """Messages per second that the actor takes which keeps finished rows."""
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        ledger = ray.remote(Ledger).options(num_cpus=0).remote(None)
        ray.get(ledger.counts.remote())
        started = time.perf_counter()
        for _ in range(messages):
            ledger.note.remote([(os.urandom(16), bytes(300)) for _ in range(rows_at_a_time)], 0, 0)
        assert ray.get(ledger.counts.remote())["finished"] == rows_at_a_time * messages
        return messages / (time.perf_counter() - started)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    found = measure(*given)
    workers = given[0] if given else 2
    one, many = (statistics.median(column) for column in zip(*found, strict=True))
    table.show(
        f"Rows per second, a stub LM in the process, {IN_FLIGHT} in flight in each, DSPy {dspy.__version__}",
        ("", "rows/s", "ratio"),
        [
            ("batch(), one process", f"{one:.0f}", "1.00"),
            (f"Ray, {workers} workers", f"{many:.0f}", ratio([two for _, two in found], [each for each, _ in found])),
        ],
    )
    print(f"The ledger takes {ledger_rate():,.0f} messages of 10 rows per second.")
