"""map_dataset() on a cluster of this machine: results, errors, limits, and workers that are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import limit
from dspy_parallel.ray import map_dataset
from tests.ray.programs import Ask, Echo, Peak

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def rows(ray: Any, questions: list[str]) -> Any:
    return ray.data.from_items([{"id": number, "question": question} for number, question in enumerate(questions)])


def by_id(dataset: Any) -> list[dict[str, Any]]:
    return sorted(dataset.take_all(), key=lambda row: row["id"])


def test_rows_beside_results(ray: Any) -> None:
    """Also: the program's state, its own LM and the caller's settings are where it runs; errors are rows."""
    program = Ask("> ")
    program.ask.demos = [dspy.Example(question="a demo", answer="of the program")]
    program.ask.lm = Echo(shows_demos=True)
    questions = [*(f"q{number}" for number in range(60)), "bad one", "bad two"]
    with dspy.context(lm=None, adapter=dspy.ChatAdapter()):
        found = by_id(
            map_dataset(
                rows(ray, questions), program, concurrency=2, max_in_flight=10, inputs=["question"], on_error="return"
            )
        )
    assert [row["question"] for row in found] == questions
    assert [row["answer"] for row in found[:60]] == [f"> q{number}! 1 demos" for number in range(60)]
    assert [row["error"] for row in found] == [None] * 60 + ["ValueError: bad one", "ValueError: bad two"]
    assert [row.get("answer") for row in found[60:]] == [None, None]
    assert os.getpid() not in {row.get("pid") for row in found}


def test_an_error_ends_the_run(ray: Any) -> None:
    with dspy.context(lm=Echo()), pytest.raises(Exception, match="ValueError: bad one"):
        map_dataset(rows(ray, ["bad one"]), Ask(), inputs=["question"]).take_all()


def test_limits_are_divided(ray: Any, tmp_path: Path) -> None:
    """Five for two workers are three and two, all of them in use."""
    lm = Peak(str(tmp_path))
    held = limit(lm, max_in_flight=5)
    with dspy.context(lm=lm):
        dataset = rows(ray, [f"q{number}" for number in range(300)])
        found = by_id(map_dataset(dataset, Ask(), concurrency=2, max_in_flight=20, inputs=["question"]))
    held.lift()
    assert len(found) == 300
    assert sorted(int(file.read_text()) for file in tmp_path.glob("*.peak")) == [2, 3]


@pytest.mark.parametrize("moment", [0.3, 0.7])
def test_a_killed_worker_loses_and_repeats_nothing(ray: Any, tmp_path: Path, moment: float) -> None:
    """What was in flight at the kill is asked again, and nothing else."""
    count, in_flight = 300, 10
    lm = Echo(str(tmp_path), latency=0.1)

    def calls() -> list[tuple[str, str]]:
        return [(file.stem, line) for file in tmp_path.glob("*.calls") for line in file.read_text().splitlines()]

    killed: list[str] = []

    def kill() -> None:
        while len(made := calls()) < count * moment:
            time.sleep(0.005)
        killed.append(made[-1][0])
        os.kill(int(killed[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    with dspy.context(lm=lm):
        dataset = map_dataset(
            rows(ray, [f"q{number}" for number in range(count)]),
            Ask(),
            concurrency=2,
            max_in_flight=in_flight,
            inputs=["question"],
        )
        killer.start()
        found = by_id(dataset)
    killer.join()
    assert [row["answer"] for row in found] == [f"q{number}!" for number in range(count)]
    asked = Counter(question for _, question in calls())
    assert len({worker for worker, _ in calls()}) == 3  # two, and the one that took the place of the killed one
    repeated = sum(asked.values()) - count
    print(f"killed after {count * moment:.0f} calls; {repeated} were made again")
    assert repeated <= in_flight
    assert any(row["pid"] == int(killed[0]) for row in found)  # its finished rows were kept


def test_equal_rows_have_results_of_their_own(ray: Any) -> None:
    """Nothing is recognised by its content alone."""
    dataset = ray.data.from_items([{"question": "the same"}] * 120)
    found = map_dataset(dataset, count_up, concurrency=1, max_in_flight=10).take_all()
    assert sorted(row["result"] for row in found) == list(range(1, 121))


_calls = Counter[str]()


def count_up(question: str) -> int:
    _calls[question] += 1
    return _calls[question]
