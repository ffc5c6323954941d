"""A program, ways to run many of it, and a callback that watches."""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer


class Ask(dspy.Signature):  # not "question -> answer": Python's parser fails now and then if threads parse at once
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Answer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict(Ask)

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


@async_module(engine="loop")
class OnLoop(Answer):
    pass


@async_module(engine="thread")
class InThread(Answer):
    pass


class Watch(BaseCallback):
    """Which LM calls have begun, which have ended, and with which errors."""

    def __init__(self) -> None:
        self.began: set[str] = set()
        self.ended: list[str] = []
        self.failed: list[Any] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.began.add(call_id)

    def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.began.remove(call_id)
        self.ended.append(call_id)
        self.failed += [exception] if exception else []


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def make_lm(server: LMServer, **options: Any) -> Any:
    return dspy.LM("openai/any", **{"cache": False, **server.lm_kwargs(), **options})


def loop(lm: Any, items: list[str]) -> list[Any]:
    return _on_loop(lambda: OnLoop().acall, lm, items)


def thread(lm: Any, items: list[str]) -> list[Any]:
    return _on_loop(lambda: InThread().acall, lm, items)


def by_hand(lm: Any, items: list[str]) -> list[Any]:
    return _on_loop(lambda: Answer().predict.acall, lm, items)


def several_loops(lm: Any, items: list[str]) -> list[Any]:
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda n: loop(lm, items[n::4]), range(4)))
    return [parts[n % 4][n // 4] for n in range(len(items))]


def plain_threads(lm: Any, items: list[str]) -> list[Any]:
    def call(item: str) -> Any:
        with dspy.context(lm=lm):
            return _outcome(lambda: Answer()(question=item))

    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(call, items))


def parallel(lm: Any, items: list[str]) -> list[Any]:
    with dspy.context(lm=lm):
        run = dspy.Parallel(num_threads=len(items), disable_progress_bar=True, max_errors=len(items) + 1)
        return run([(Answer(), {"question": item}) for item in items])


WAYS: dict[str, Callable[[Any, list[str]], list[Any]]] = {
    fn.__name__: fn for fn in (loop, thread, by_hand, several_loops, plain_threads, parallel)
}


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as exc:
        return exc


def _on_loop(make: Callable[[], Callable[..., Awaitable[Any]]], lm: Any, items: list[str]) -> list[Any]:
    async def main() -> list[Any]:
        with dspy.context(lm=lm):
            call = make()
            try:
                return await asyncio.gather(*(call(question=item) for item in items), return_exceptions=True)
            finally:
                if hasattr(lm, "aclose"):
                    await lm.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        return asyncio.run(main())
