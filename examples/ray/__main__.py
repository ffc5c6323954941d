"""Labels the rows of a Parquet file with two Ray workers; one of them is killed in the middle.

    python -m examples.ray [ROWS]

An LM server on loopback plays the LM, and a cluster on this machine the cluster: on another, `ray.init()` finds it by
the environment variable `RAY_ADDRESS`, and nothing else changes. Needs `pip install 'dspy-parallel[ray,testing]'`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal

import dspy
import ray

from dspy_parallel import limit
from dspy_parallel.ray import map_dataset
from dspy_parallel.testing import LMServer


class Review(dspy.Signature):
    """Judge a customer's review."""

    text: str = dspy.InputField()
    sentiment: Literal["good", "bad", "mixed"] = dspy.OutputField()


class Label(dspy.Module):
    """Labels one review, and tells who did it."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = dspy.Predict(Review)

    def forward(self, text: str) -> Any:
        return dspy.Prediction(sentiment=self.judge(text=text).sentiment, worker=os.getpid())


def kill_one_of(server: LMServer, count: int, workers: Path) -> None:
    """Kill a worker once half of the rows have been asked for."""
    while server.stats().requests < count // 2:
        threading.Event().wait(0.05)
    victim = int(next(workers.iterdir()).name)
    print(f"kill -9 {victim}")
    os.kill(victim, signal.SIGKILL)


class Marked(Label):
    """A label's worker leaves its process id in a directory, so that somebody can kill it."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = str(directory)

    def forward(self, text: str) -> Any:
        Path(self.directory, str(os.getpid())).touch()
        return super().forward(text)


def main(count: int) -> tuple[int, int]:
    """How many rows there are, and how many LM calls they took."""
    directory, workers = Path(tempfile.mkdtemp(prefix="reviews-")), Path(tempfile.mkdtemp(prefix="workers-"))
    reviews = [{"id": number, "text": f"Review {number}: it came late, but works"} for number in range(count)]
    ray.init(num_cpus=3, include_dashboard=False, ignore_reinit_error=True)
    ray.data.from_items(reviews).write_parquet(str(directory / "reviews"))
    with LMServer(latency=0.2) as server:
        lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
        limit(lm, max_in_flight=100)  # for both workers together
        with dspy.context(lm=lm):
            labelled = map_dataset(
                # In blocks: one file is one, and only one worker can have it.
                ray.data.read_parquet(str(directory / "reviews")).repartition(target_num_rows_per_block=50),
                Marked(workers),
                concurrency=2,
                max_in_flight=50,
                inputs=["text"],
            )
            killer = threading.Thread(target=kill_one_of, args=(server, count, workers))
            killer.start()
            labelled.write_parquet(str(directory / "labelled"))
            killer.join()
        rows = ray.data.read_parquet(str(directory / "labelled")).take_all()
        calls = server.stats().requests
    assert sorted(row["id"] for row in rows) == list(range(count))
    print(
        f"{count} rows by {len({row['worker'] for row in rows})} workers in {directory / 'labelled'}; {calls} LM calls"
    )
    return len(rows), calls


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
    ray.shutdown()
