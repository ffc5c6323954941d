"""No key and no prompt in anything that this package logs, warns of, raises or shows as a repr."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dspy
import pytest

import dspy_parallel
from dspy_parallel import (
    AsyncModuleMixin,
    DSPyParallelError,
    add_seam,
    async_module,
    await_,
    batch,
    iter_batch,
    offload,
    own_history,
    placement_of,
    run,
    run_sync,
)
from dspy_parallel.batches.json_forms import decode
from dspy_parallel.langgraph import async_node, parallelize_graph
from dspy_parallel.testing import LMServer
from tests.support.observation import logged
from tests.testing.dspy_world import ENGINES, make_lm

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

KEY = "sk-canary-4f1d9c"
PROMPT = "prompt-canary-77ab"
ANSWER = "answer-canary-03ce"


class Found(logging.Handler):
    """Everything that was said, as text."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(self.format(record))  # with the traceback's text, if there is one

    def add(self, thing: Any) -> None:
        """What an object shows of itself, or an error of ours says."""
        self.said += [str(thing), repr(thing)]
        if isinstance(thing, DSPyParallelError):
            self.said += ["".join(traceback.format_exception_only(type(thing), thing)), repr(vars(thing))]

    def check(self) -> None:
        for text in self.said:
            for canary in (KEY, PROMPT, ANSWER):
                assert canary not in text, text


@contextmanager
def listening() -> Iterator[Found]:
    """Our log at DEBUG and all of our warnings."""
    found = Found()
    logger = logging.getLogger("dspy_parallel")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(found)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield found
        for warning in warned:
            # DSPy and LiteLLM answer for their own.
            if issubclass(warning.category, dspy_parallel.DSPyParallelWarning):
                found.add(warning.message)
    finally:
        logger.removeHandler(found)
        logger.setLevel(before)


class Answer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


class NeedsThread(Answer):
    def forward(self, question: str) -> Any:
        return dspy.Tool(lambda question: question, name="look")(question=question)


@pytest.fixture
def server(lm_server_factory: Callable[..., LMServer]) -> LMServer:
    return lm_server_factory(replies=[{"match": "canary", "fields": {"answer": ANSWER}}])


def with_key(lm: Any) -> Any:
    lm.kwargs["api_key"] = KEY
    return lm


@pytest.mark.parametrize("engine", ENGINES)
def test_programs_that_succeed_fail_and_block(server: LMServer, engine: Any) -> None:
    """With every fault that a provider can have, on every engine, one of them given up half-way."""
    lm = with_key(make_lm(server, engine))
    with listening() as found, logged(), dspy.context(lm=lm):
        for kind in (None, "429", "401", "500", "reset", "truncated", "malformed_json", "wrong_content"):
            server.configure(faults=[kind] if kind else [])
            for way in ("loop", "thread", "auto"):
                program = async_module(engine=way)(type("Answer", (Answer,), {}))()
                try:
                    with own_history() as calls:
                        asyncio.run(program.acall(question=PROMPT))
                    assert ANSWER in repr(calls), "the canaries are where they belong"
                    assert KEY not in repr(calls)
                except Exception as exc:
                    if isinstance(exc, DSPyParallelError):
                        found.add(exc)
                found.add(placement_of(type(program)))
        server.configure(faults=[], hold=True)

        async def cancelled() -> None:
            task = asyncio.create_task(run(Answer(), PROMPT, engine="loop"))
            await server.await_for(held=1)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(cancelled())
    found.check()


def errors() -> Iterator[Callable[[], Any]]:
    """Calls that make us raise, each with a canary within reach."""
    yield lambda: asyncio.run(async_module(engine="loop")(NeedsThread)().acall(question=PROMPT))
    yield lambda: asyncio.run(run(offload(lambda text: text), PROMPT, engine="loop"))
    yield lambda: await_(asyncio.sleep(0, result=PROMPT))
    yield lambda: async_module(dict(prompt=PROMPT, key=KEY))
    yield lambda: async_module(type("Bad", (dspy.Module,), {"prompt": PROMPT, "forward": KEY}))
    yield lambda: async_module(type("Bad", (dspy.Module,), {"prompt": PROMPT})())
    yield lambda: type("Bad", (AsyncModuleMixin, dspy.Module), {"forward": _generator})
    yield lambda: add_seam("no.such.module")
    yield lambda: run_sync(print, PROMPT, engine="fast")
    yield lambda: batch(print, [{PROMPT: 1, 2: KEY}])
    yield lambda: decode({"$model": PROMPT, "data": {KEY: PROMPT}})
    yield lambda: parallelize_graph({"prompt": PROMPT, "key": KEY})
    yield lambda: async_node(functools.partial(_generator, KEY))


def test_a_batch_item() -> None:
    """Its repr, too."""
    (item,) = iter_batch(lambda text: text, [{"text": PROMPT}])
    with listening() as found:
        assert item.result == PROMPT
        found.add(item)
    found.check()


def _generator(self: Any, question: str = PROMPT) -> Any:
    yield question


@pytest.mark.parametrize("call", list(errors()), ids=lambda call: str(call.__code__.co_firstlineno))
def test_errors_of_our_own(call: Callable[[], Any]) -> None:
    """They say what failed and what to do, not with what it was called."""
    with listening() as found:
        with pytest.raises(DSPyParallelError) as caught:
            call()
        found.add(caught.value)
    found.check()


def test_limits(server: LMServer) -> None:
    """What shows a limit shows neither the LM's key nor what waits."""
    limits = pytest.importorskip("dspy_parallel.limits")
    lm = with_key(make_lm(server, ENGINES[0]))
    server.configure(faults=[{"kind": "429", "times": 2, "retry_after": 0.1}])
    with listening() as found, dspy.context(lm=lm), logged():
        limit = limits.limit(lm, max_in_flight=2)
        program = async_module(engine="loop")(type("Answer", (Answer,), {}))()
        asyncio.run(program.acall(question=PROMPT))
        found.add(limit)
    found.check()
