"""What others see of a limited call: callbacks, timeouts, logs, errors, and exceptions that are no errors."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from dspy_parallel import limit
from dspy_parallel.testing import LMServer
from tests.limits.programs import WAYS, Watch, make_lm

NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None


@pytest.mark.parametrize("cache", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_waiting_is_no_latency(server: LMServer, came: threading.Semaphore, way: str, cache: bool) -> None:
    """Callbacks see a call begin when it is its turn, though nine more are in the queue; each call once."""
    server.configure(hold=True)
    watch = Watch()
    lm = make_lm(server, cache=cache, callbacks=[watch])
    limit(lm, max_in_flight=1)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS[way], lm, [f"item {n}" for n in range(10)])
        for _ in range(10):
            assert came.acquire(timeout=60)
        server.wait_for(held=1)
        began = len(watch.began)
        server.release()
        running.result()
    assert began == 1
    assert len(set(watch.ended)) == len(watch.ended) == 10
    assert not watch.began


def test_a_refused_call_is_one_call(server: LMServer) -> None:
    """Refusals in between are no failures: one start, one end, one history entry."""
    watch = Watch()
    server.configure(faults=[{"kind": "429", "retry_after": 0.05, "first": 2}])
    lm = make_lm(server, callbacks=[watch], num_retries=0)
    limit(lm, max_in_flight=3)
    WAYS["loop"](lm, ["one", "two", "three"])
    assert (len(watch.ended), watch.failed, watch.began, len(lm.history)) == (3, [], set(), 3)


def test_answers_from_the_cache_with_callbacks(server: LMServer) -> None:
    """To find out that a call needs no turn leaves no trace: history, usage and callbacks are those of one call."""
    watch = Watch()
    lm = make_lm(server, cache=True, callbacks=[watch])
    with dspy.context(lm=lm, track_usage=True):
        for way in ("loop", "plain_threads", "by_hand"):
            WAYS[way](lm, ["known"])
        plain = [len(lm.history), len(watch.ended)]
        held = limit(lm, max_in_flight=1)
        held.limiter.enter_blocking(held.limiter.number())
        held.limiter.pause_for(3600)
        for way in ("loop", "plain_threads", "by_hand"):
            WAYS[way](lm, ["known"])
    assert [len(lm.history), len(watch.ended)] == [2 * n for n in plain]


def test_the_cache_is_not_looked_into_on_the_loop(server: LMServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be on disk: as DSPy does, in a thread."""
    looked: list[int] = []
    get = dspy.cache.get
    monkeypatch.setattr(dspy.cache, "get", lambda *args: (looked.append(threading.get_ident()), get(*args))[1])
    lm = make_lm(server, cache=True, callbacks=[Watch()])
    limit(lm, max_in_flight=1)
    WAYS["by_hand"](lm, ["new"])
    assert looked
    assert NATIVE is (threading.get_ident() not in looked)  # before DSPy 3.4 DSPy itself looks on the loop


@pytest.mark.parametrize("way", ["loop", "plain_threads"])
def test_waiting_does_not_count_towards_the_timeout(server: LMServer, came: threading.Semaphore, way: str) -> None:
    """The only place is taken for longer than the LM's timeout, which is far more than a request takes."""
    timeout = 5.0
    lm = make_lm(server, timeout=timeout, num_retries=0)
    WAYS["loop"](lm, ["warm up"])
    held = limit(lm, max_in_flight=1)
    held.limiter.enter_blocking(held.limiter.number())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS[way], lm, [f"item {n}" for n in range(3)])
        for _ in range(1 + 3):
            assert came.acquire(timeout=60)
        time.sleep(timeout + 0.2)
        assert held.waiting == 3
        held.limiter.leave("other", 0.0)
        assert all(isinstance(result.answer, str) for result in running.result())


@pytest.mark.parametrize("way", [way for way in WAYS if way != "parallel"])
def test_nothing_secret_is_said(
    server: LMServer, way: str, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """No key and no prompt text in a log line, warning or repr of ours, and no error of ours around the provider's."""
    caplog.set_level(logging.DEBUG)
    server.configure(faults=[{"kind": "429", "retry_after": 0.05}])
    lm = make_lm(server, api_key="sk-secret-key", num_retries=1)
    held = limit(lm, max_in_flight=2, give_up_after=0.2)
    (error,) = WAYS[way](lm, ["a private question"])
    assert isinstance(error, Exception)
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("dspy_parallel")]
    assert any("refused" in line for line in ours)
    for text in (*ours, repr(held), str(held), *(str(w.message) for w in recwarn)):
        assert "secret" not in text
        assert "private" not in text
    assert not type(error).__module__.startswith("dspy_parallel")


class Stop(BaseException):
    """As a graph's interrupt, or Ctrl-C: no error, and not to be handled on the way."""


class Interrupting(dspy.BaseLM):
    def __init__(self) -> None:
        super().__init__("interrupting", cache=False)
        self.raised = Stop("now")

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        raise self.raised

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        raise self.raised


@pytest.mark.parametrize("raised", [Stop("now"), KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_control_exceptions_pass_through(raised: BaseException, asynchronous: bool) -> None:
    """The very object arrives, at once, and the place is given back."""
    lm = Interrupting()
    lm.raised = raised
    held = limit(lm, max_in_flight=1)

    async def main() -> BaseException:
        try:
            await lm.acall("hello")
        except BaseException as exc:
            return exc
        raise AssertionError

    for _ in range(2):
        if asynchronous:
            arrived = asyncio.run(main())
        else:
            with pytest.raises(type(raised)) as caught:
                lm("hello")
            arrived = caught.value
        assert arrived is raised
        assert (held.in_flight, held.waiting) == (0, 0)
    raised.__traceback__ = None


def test_an_abandoned_call_gives_its_place_back() -> None:
    """A coroutine that is closed, or collected, while it waits or while it is inside."""

    class Waiting(dspy.BaseLM):
        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            await asyncio.get_running_loop().create_future()

        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise NotImplementedError

    lm = Waiting("waiting", cache=False)
    held = limit(lm, max_in_flight=1)

    async def main() -> None:
        tasks = [asyncio.create_task(lm.acall("hello")) for _ in range(3)]
        while (held.in_flight, held.waiting) != (1, 2):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()

    asyncio.run(main())
    gc.collect()
    assert (held.in_flight, held.waiting) == (0, 0)
