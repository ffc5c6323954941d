"""limit() over HTTP: every way to call an LM, refusals, the time to give up, copies, the cache."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import dspy
import pytest

from dspy_parallel import Limit, LimitError, limit, limit_all
from dspy_parallel.limits.assignment import limit_of
from dspy_parallel.testing import LMServer
from tests.limits.programs import WAYS, Answer, OnLoop, Watch, make_lm, until
from tests.support.children import PRELOADED
from tests.support.gates import Gate
from tests.testing.dspy_world import VERSION

ITEMS = [f"item {n}" for n in range(12)]


def answers(results: list[Any]) -> list[Any]:
    return [getattr(result, "answer", result) for result in results]


@pytest.mark.parametrize("way", WAYS)
def test_no_more_than_allowed_at_a_time(server: LMServer, way: str) -> None:
    """The server, which would refuse a fourth, never sees one; it answers when three are there at once."""
    server.configure(max_concurrency=3, gate=3)
    lm = make_lm(server, num_retries=0)
    held = limit(lm, max_in_flight=3)
    assert all(isinstance(answer, str) for answer in answers(WAYS[way](lm, ITEMS)))
    stats = server.stats()
    assert (stats.peak_in_flight, stats.completed, stats.rejected) == (3, len(ITEMS), {})
    assert (held.in_flight, held.waiting, held.refusals) == (0, 0, 0)


@pytest.mark.parametrize("way", ["loop", "several_loops", "plain_threads"])
def test_refused_calls_queue_again(server: LMServer, way: str) -> None:
    """Four times too many at once, and DSPy's own retries are off: still none is lost."""
    server.configure(max_concurrency=3, hold=True, retry_after=0.05)
    lm = make_lm(server, num_retries=0)
    held = limit(lm, max_in_flight=12)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS[way], lm, ITEMS)
        server.wait_for(held=3, rejected=1)
        server.release()
        assert all(isinstance(answer, str) for answer in answers(running.result()))
    stats = server.stats()
    assert (stats.completed, stats.peak_in_flight) == (len(ITEMS), 3)
    assert held.refusals == stats.rejected["concurrency"] > 0
    assert (held.in_flight, held.waiting) == (0, 0)


def test_the_window_adapts(server: LMServer) -> None:
    """As long as the server is at what it admits, down to that; and it grows by no more than is answered."""
    server.configure(max_concurrency=4, hold=True, retry_after=0.02)
    lm = make_lm(server, num_retries=0)
    held = limit(lm, max_in_flight=32)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS["loop"], lm, [f"item {n}" for n in range(32)])
        server.wait_for(held=4)
        until(lambda: held.allowed <= 4)
        server.release()
        running.result()
    assert held.allowed < 16


def test_retry_after_pauses_everyone(server: LMServer) -> None:
    """One refusal, and nobody asks before the time that it named; those that were in flight go on."""
    server.configure(faults=[{"kind": "429", "retry_after": 0.5, "match": "first", "first": 1}], latency=0.01)
    lm = make_lm(server, num_retries=0)
    limit(lm, max_in_flight=1)
    assert all(isinstance(a, str) for a in answers(WAYS["loop"](lm, ["first", "second", "third"])))
    refused, *rest = server.log()
    assert (refused.status, len(rest)) == (429, 3)
    assert all(later.start - refused.end >= 0.49 for later in rest)


def test_a_refusal_without_retry_after_lets_others_pass(server: LMServer) -> None:
    """Only the refused call rests."""
    server.configure(faults=[{"kind": "429", "match": "first", "first": 1}])
    lm = make_lm(server, num_retries=0)
    limit(lm, max_in_flight=1)
    assert all(isinstance(a, str) for a in answers(WAYS["loop"](lm, ["first", "second", "third"])))
    assert [entry.status for entry in server.log()] == [429, 200, 200, 200]


@pytest.mark.parametrize("way", ["loop", "plain_threads", "parallel"])
def test_gives_up_in_time_with_the_providers_error(server: LMServer, way: str) -> None:
    """The error of the sync program without limits; and DSPy's retries do not begin again after it."""
    server.configure(faults=[{"kind": "429", "retry_after": 0.1, "match": "never"}])
    plain = make_lm(server, num_retries=0)
    with pytest.raises(Exception) as stock, dspy.context(lm=plain):
        Answer()(question="never")
    lm = make_lm(server, num_retries=3)
    held = limit(lm, max_in_flight=2, give_up_after=0.4)
    for outcome in WAYS[way](lm, ["never", "never again"]):
        if way != "parallel":  # which gives None for what has failed
            assert type(outcome) is type(stock.value)
    assert (held.in_flight, held.waiting) == (0, 0)
    assert 2 <= held.refusals <= 24
    assert isinstance(WAYS[way](lm, ["fine"])[0].answer, str)


def test_a_distant_retry_after_is_not_waited_for(server: LMServer) -> None:
    """If the provider names a time after the caller's own, there is no point in waiting."""
    server.configure(faults=[{"kind": "429", "retry_after": 3600}])
    lm = make_lm(server, num_retries=3)
    limit(lm, give_up_after=0.3)
    with pytest.raises(Exception, match=r"[Rr]ate"):
        lm("hello")
    assert server.stats().requests == 1
    server.configure(faults=[])
    assert lm("hello again")  # the others do not wait for an hour either


@pytest.mark.parametrize("retry_after", [0, 0.001])
def test_no_storm_of_requests(server: LMServer, retry_after: float) -> None:
    """A provider that says "at once" again and again, or one whose clock is behind."""
    server.configure(faults=[{"kind": "429", "retry_after": retry_after}])
    lm = make_lm(server, num_retries=0)
    limit(lm, give_up_after=0.8)
    for way in ("loop", "plain_threads"):
        server.reset_stats()
        assert isinstance(WAYS[way](lm, ["never"])[0], Exception)
        assert 2 <= server.stats().requests <= 24  # early versions of DSPy try again with another adapter


def test_no_storm_of_requests_from_a_blocked_loop(server: LMServer) -> None:
    """As in a notebook's cell: its sync calls keep to pauses and the rate, too."""
    server.configure(faults=[{"kind": "429", "retry_after": 0.5, "first": 1, "match": "item 0"}])
    lm = make_lm(server, num_retries=0)
    held = limit(lm, max_in_flight=1, requests_per_minute=120)

    async def main() -> None:
        for n in range(4):
            lm(f"item {n}")

    asyncio.run(main())
    starts = [entry.start for entry in server.log()]
    assert len(starts) == 5
    assert starts[1] - starts[0] >= 0.49
    # Each is let in half a second after the one before; the first had reached the server before the second was.
    assert starts[4] - starts[1] >= 0.99
    assert (held.refusals, held.in_flight) == (1, 0)


@pytest.mark.parametrize(("way", "watched"), [("loop", True), *((way, False) for way in WAYS if way != "parallel")])
def test_a_far_retry_after_is_waited_for_once(
    server: LMServer, way: str, watched: bool, came: threading.Semaphore
) -> None:
    """By all in the queue together, not by one after the other; each gets the error of the sync program."""
    server.configure(faults=[{"kind": "429", "retry_after": 3600}])
    with pytest.raises(Exception, match=r"[Rr]ate") as stock:
        make_lm(server, num_retries=0)("hello")
    server.reset_stats()
    server.configure(hold=True)
    watch = Watch()
    lm = make_lm(server, num_retries=3, callbacks=[watch] if watched else None)
    held = limit(lm, max_in_flight=2, give_up_after=0.4)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS[way], lm, ITEMS)
        for _ in ITEMS:
            assert came.acquire(timeout=60)
        server.release()
        errors = running.result()
    assert {type(error) for error in errors} == {type(stock.value)}
    assert len({id(error) for error in errors}) == len(ITEMS)
    # Before DSPy 3.4 it is LiteLLM that retries, within the call.
    assert server.stats().requests <= len(ITEMS) // 2 * (1 if VERSION >= (3, 4) else 1 + 3)
    assert (held.in_flight, held.waiting) == (0, 0)
    assert (len(watch.failed) >= len(ITEMS)) is watched


def test_a_far_retry_after_that_was_too_long(server: LMServer) -> None:
    """Whoever waits for it is served, and only the call that was refused is not."""
    server.configure(faults=[{"kind": "429", "retry_after": 3600, "match": "item 0"}])
    lm = make_lm(server, num_retries=0)
    limit(lm, max_in_flight=1, give_up_after=0.3)
    results = answers(WAYS["loop"](lm, ITEMS[:10]))
    assert [isinstance(result, str) for result in results] == [False] + [True] * 9


def test_other_errors_are_retried_by_dspy(server: LMServer) -> None:
    """As often as without a limit; the place is given back between the attempts."""
    requests = []
    for limited in (False, True):
        server.restore()
        server.configure(faults=["503"])
        lm = make_lm(server, num_retries=1)
        if limited:
            held = limit(lm, max_in_flight=1)
        with pytest.raises(Exception, match=r"."):
            lm("hello")
        requests.append(server.stats().requests)
    assert requests[0] == requests[1]
    assert held.in_flight == 0


def test_copies_share_the_limit(server: LMServer) -> None:
    """DSPy's copies, those with other settings, deep copies, pickles; and a program's own, after set_lm."""
    lm = make_lm(server)
    held = limit(lm, max_in_flight=2)
    program = Answer()
    program.set_lm(lm)
    copies = [
        lm.copy(),
        lm.copy(rollout_id=3, temperature=1.0),
        copy.copy(lm),
        copy.deepcopy(lm),
        pickle.loads(pickle.dumps(lm)),
        cloudpickle.loads(cloudpickle.dumps(lm)),
        copy.deepcopy(program).predict.lm,
        program.deepcopy().predict.lm,
    ]
    assert all(limit_of(each) is held for each in copies)


def test_a_pickle_in_another_process(server: LMServer) -> None:
    """It needs nothing of this package to be read; where the package is used, copies share one limit there."""
    lm = make_lm(server)
    limit(lm, max_in_flight=7, give_up_after=3)
    pickled = pickle.dumps(lm)
    assert b"dspy_parallel.limits" not in pickled
    source = (
        "import pickle, sys\n"
        f"pickled = {pickled!r}\n"
        "first, second = pickle.loads(pickled), pickle.loads(pickled)\n"
        "assert not any(name.startswith('dspy_parallel.limits') for name in sys.modules)\n"
        "from dspy_parallel.limits.assignment import limit_of\n"
        "assert limit_of(first) is limit_of(second)\n"
        "assert limit_of(first).settings.max_in_flight == 7\n"
        "assert limit_of(first).settings.give_up_after == 3\n"
    )
    subprocess.run([*PRELOADED, "-c", source], check=True, timeout=280)


def test_state_has_no_limit(server: LMServer) -> None:
    """What is saved as JSON is as ever."""
    lm = make_lm(server)
    before = lm.dump_state()
    limit(lm, max_in_flight=2)
    assert lm.dump_state() == before


def test_several_lms_share_a_limit(server: LMServer) -> None:
    """As many as are named."""
    server.configure(gate=2)
    lms = [make_lm(server), make_lm(server, temperature=0.5)]
    limit(*lms, max_in_flight=2)

    async def main() -> None:
        await asyncio.gather(*(lms[n % 2].acall(f"item {n}") for n in range(12)))

    asyncio.run(main())
    assert server.stats().peak_in_flight == 2


def test_limit_all(server: LMServer) -> None:
    """One limit for each model and address, however many LMs are made; an LM's own goes first; and it ends."""
    limit_all(max_in_flight=2)

    async def main(gate: int) -> int:
        server.restore()
        server.configure(gate=gate)
        await asyncio.gather(*(make_lm(server).acall(f"item {n}") for n in range(12)))
        return server.stats().peak_in_flight

    assert asyncio.run(main(2)) == 2
    one, other = make_lm(server), make_lm(server, temperature=0.5)
    assert limit_of(one) is limit_of(other)
    assert limit_of(one) is not limit_of(dspy.LM("openai/another", **server.lm_kwargs()))
    own = limit(one, max_in_flight=9)
    assert limit_of(one) is own
    limit_all()
    assert limit_of(other) is None
    assert asyncio.run(main(3)) > 2


def test_lift(server: LMServer) -> None:
    """The limit ends, also for copies made before."""
    lm = make_lm(server)
    copied = lm.copy()
    held = limit(lm, max_in_flight=2)
    copied = lm.copy()
    held.lift()
    assert limit_of(lm) is limit_of(copied) is None


def test_answers_from_the_cache_take_no_place(server: LMServer) -> None:
    """They come while the only place is taken and the rate is used up, on each way."""
    lm = make_lm(server, cache=True)
    for way in WAYS:
        dspy.cache.memory_cache.clear()
        WAYS[way](lm, ["known"])
    held = limit(lm, max_in_flight=1)
    held.limiter.enter_blocking(held.limiter.number())
    held.limiter.pause_for(3600)
    before = server.stats().requests
    for way in WAYS:
        assert isinstance(WAYS[way](lm, ["known"])[0].answer, str)
    assert server.stats().requests == before


def test_identical_calls_wait_for_one_another_outside_the_queue(server: LMServer) -> None:
    """The first of equal cached calls is refused, and queues again behind nobody who waits for it."""
    server.configure(faults=[{"kind": "429", "retry_after": 0.05, "first": 1}])
    lm = make_lm(server, cache=True, num_retries=0)
    held = limit(lm, max_in_flight=1)
    assert len(set(answers(WAYS["loop"](lm, ["same"] * 20)))) == 1
    assert (server.stats().completed, held.in_flight) == (1, 0)


def test_cancelled_calls_give_their_place_back(server: LMServer) -> None:
    """Those in flight as well as those in the queue, at once."""
    server.configure(hold=True)
    lm = make_lm(server)
    held = limit(lm, max_in_flight=2)

    async def main() -> None:
        program = OnLoop()
        with dspy.context(lm=lm):
            tasks = [asyncio.create_task(program.acall(question=f"item {n}")) for n in range(6)]
        await asyncio.to_thread(server.wait_for, held=2)
        for task in tasks[:5]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks[:5], return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        server.release()
        assert (await asyncio.wait_for(tasks[5], 60)).answer

    asyncio.run(main())
    assert (held.in_flight, held.waiting) == (0, 0)


def test_a_sync_call_that_blocks_a_loop_does_not_wait_for_that_loop(server: LMServer) -> None:
    """The only place belongs to a task of the loop that is blocked: waiting for it would never end."""
    server.configure(gate=2)
    lm = make_lm(server)
    held = limit(lm, max_in_flight=1)

    async def main() -> None:
        task = asyncio.create_task(lm.acall("one"))
        await asyncio.to_thread(server.wait_for, in_flight=1)
        assert lm("two")
        assert await task

    asyncio.run(asyncio.wait_for(main(), 60))
    assert held.in_flight == 0


def test_an_lm_that_calls_another_of_the_same_limit(server: LMServer) -> None:
    """It does not wait for its own place."""
    inner = make_lm(server)

    class Outer(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return inner.forward(prompt=prompt, messages=messages, **kwargs)

        def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return inner(prompt, messages=messages, **kwargs)

        async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return await inner.acall(prompt, messages=messages, **kwargs)

    outer = Outer("outer")
    held = limit(outer, inner, max_in_flight=1)
    assert outer("hello")
    assert asyncio.run(asyncio.wait_for(outer.acall("hello"), 60))
    assert (held.in_flight, server.stats().completed) == (0, 2)


@pytest.mark.parametrize("method", ["acall", "aforward"])
@pytest.mark.parametrize("refused", [False, True])
def test_an_lm_class_that_makes_several_requests_at_once(server: LMServer, method: str, refused: bool) -> None:
    """Each takes a place of its own, and is queued again by itself."""

    async def several(lm: Any, *args: Any, **kwargs: Any) -> Any:
        return (await asyncio.gather(*(getattr(super(Vote, lm), method)(*args, **kwargs) for _ in range(5))))[0]

    Vote: Any = type("Vote", (dspy.LM,), {method: several})
    server.configure(**({"hold": True, "max_concurrency": 1, "retry_after": 0.02} if refused else {}))
    lm = Vote("openai/any", cache=False, num_retries=0, **server.lm_kwargs())
    held = limit(lm, max_in_flight=5 if refused else 1)

    async def main() -> None:
        call = asyncio.create_task(lm.acall("hello"))
        if refused:
            await server.await_for(held=1, rejected=1)
            await server.arelease()
        assert await call
        if hasattr(lm, "aclose"):
            await lm.aclose()

    asyncio.run(asyncio.wait_for(main(), 60))
    stats = server.stats()
    assert (stats.completed, stats.peak_in_flight) == (5, 1)
    assert (held.in_flight, held.waiting) == (0, 0)
    assert bool(held.refusals) is refused


class Counting(dspy.BaseLM):
    """An LM class of a user's own, that gets to its provider by no way of DSPy's. It holds its calls back."""

    def __init__(self) -> None:
        super().__init__("counting", cache=False)
        self.inside, self.most, self.refuse = 0, 0, 1
        self.lock = threading.Lock()
        self.released = Gate()

    def _enter(self) -> None:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def _leave(self) -> None:
        with self.lock:
            self.inside -= 1

    def _reply(self) -> Any:
        with self.lock:
            refused, self.refuse = self.refuse, 0
        if refused:
            raise TooMany
        from types import SimpleNamespace as Some

        message = Some(content="[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]", tool_calls=None)
        return Some(choices=[Some(message=message, finish_reason="stop")], usage={}, model="counting")

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self._enter()
        try:
            assert self.released.wait(60)
            return self._reply()
        finally:
            self._leave()

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        self._enter()
        try:
            await self.released.passed()
            return self._reply()
        finally:
            self._leave()


class TooMany(Exception):
    status_code = 429
    retry_after = 0.01


@pytest.mark.parametrize("way", [way for way in WAYS if way != "parallel"])
def test_lm_classes_of_the_users_own(way: str, came: threading.Semaphore) -> None:
    """They are limited and queued again all the same."""
    lm = Counting()
    held = limit(lm, max_in_flight=2)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(WAYS[way], lm, ITEMS)
        for _ in ITEMS:
            assert came.acquire(timeout=60)
        until(lambda: lm.inside >= 2)
        let_in = held.in_flight
        lm.released.set()
        assert set(answers(running.result())) == {"yes"}
    assert (let_in, lm.most, held.in_flight, held.waiting, held.refusals) == (2, 2, 0, 0, 1)


def test_wrong_arguments() -> None:
    """Each error says what is wrong."""
    lm = dspy.LM("openai/any")
    for wrong in ({"max_in_flight": 0}, {"requests_per_minute": 1.5}, {"max_in_flight": True}, {"give_up_after": -1}):
        with pytest.raises(LimitError, match=next(iter(wrong))):
            limit(lm, **wrong)  # type: ignore[arg-type]
    with pytest.raises(LimitError, match="type str, which is not an LM"):
        limit("openai/any")
    with pytest.raises(LimitError, match="limit_all"):
        limit(max_in_flight=3)
    assert isinstance(limit(lm), Limit)
