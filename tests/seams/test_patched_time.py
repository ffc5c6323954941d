"""Tests of users' retry loops patch `time.sleep`, or stop the clock: none of our own threads comes by."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import batch, limit, seams
from tests.seams.programs import alone

freezegun = pytest.importorskip("freezegun")


class Retry(dspy.Module):
    """Waits between attempts, and for threads."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        time.sleep(60)
        answers = [self.ask(question=question).answer]
        with ThreadPoolExecutor(2) as pool:
            answers += pool.map(lambda n: f"pool {n}", range(2))
        thread = threading.Thread(target=answers.append, args=("thread",))
        thread.start()
        thread.join()
        examples = [dspy.Example(question="q").with_inputs("question")] * 2
        answers += [each.answer for each in self.ask.batch(examples, num_threads=2, disable_progress_bar=True)]
        return answers


OURS = ("dspy-parallel", "MainThread")
WANTED = ["a", "pool 0", "pool 1", "thread", "a", "a"]


@pytest.mark.parametrize("engine", ["auto", "thread"])
@pytest.mark.parametrize("first", ["patch", "install"])
def test_a_patched_sleep(engine: str, first: str) -> None:
    """Called once, by the program."""
    slept = []
    # A retriever of DSPy's, of another test, has a thread that polls.
    others = {thread for thread in threading.enumerate() if not thread.name.startswith(OURS)}

    def sleep(seconds: float) -> None:
        if threading.current_thread() not in others:
            slept.append(seconds)

    if first == "patch":
        seams.uninstall()
    with dspy.context(lm=DummyLM([{"answer": "a"}] * 9)), patch("time.sleep", sleep):
        seams.install()
        assert alone(lambda: Retry()(question="q"), engine=engine) == WANTED
        seams.uninstall()
    assert slept == [60]


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_a_frozen_clock(engine: str) -> None:
    """Nothing waits for a time that never comes."""
    with dspy.context(lm=DummyLM([{"answer": "a"}] * 9)), patch("time.sleep", return_value=None):
        with freezegun.freeze_time("2030-01-01"):
            assert alone(lambda: Retry()(question="q"), engine=engine) == WANTED


class RateLimitError(Exception):
    status_code = 429


class Refusing(dspy.BaseLM):
    """Refuses each question once."""

    def __init__(self) -> None:
        super().__init__("refusing", cache=False)
        self.asked: set[str] = set()

    def _answer(self, prompt: str) -> list[str]:
        if prompt not in self.asked:
            self.asked.add(prompt)
            raise RateLimitError
        return [prompt.upper()]

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self._answer(prompt)

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self._answer(prompt)


@pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")
@pytest.mark.parametrize("stopped", ["sleep", "clock"])
def test_limits_and_batches(stopped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused calls rest, and rates are kept, on a clock that nobody has patched, for threads and loops alike."""
    monkeypatch.setattr("dspy_parallel.limits.limited_call.FIRST_REST", 0.01)
    lm = Refusing()
    held = limit(lm, max_in_flight=2, requests_per_minute=60_000)
    rows = [(word,) for word in "abcdef"]
    frozen = freezegun.freeze_time("2030-01-01") if stopped == "clock" else contextlib.nullcontext()
    try:
        slept: list[str] = []

        def sleep(_: float) -> None:
            slept.append(threading.current_thread().name)

        with patch("time.sleep", sleep), frozen:
            for n, engine in enumerate(("loop", "thread")):
                program = functools.partial(ask, lm, n)
                found = batch(program, rows, engine=engine, progress=True, resume=tmp_path / engine)
                assert found == [f"{n} {word}".upper() for (word,) in rows]
                assert batch(program, rows, engine=engine, progress=False, resume=tmp_path / engine) == found
            assert lm_in_plain_code(lm) == ["PLAIN"]
        # Threads that others have left behind may do as they like.
        assert [name for name in slept if name.startswith(OURS)] == []
        assert (held.refusals, held.in_flight, held.waiting) == (13, 0, 0)
    finally:
        held.lift()
        seams.uninstall()


def ask(lm: Any, n: int, word: str) -> str:
    return str(lm(f"{n} {word}")[0])


def lm_in_plain_code(lm: Any) -> Any:
    return lm("plain")
