"""Sync and async calls share cache entries, and identical calls in flight make one request."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import run
from dspy_parallel.seams import single_flight
from dspy_parallel.testing import LMServer
from tests.seams.programs import PATIENCE, VERSION, alone, together

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

ROOT = Path(__file__).parents[2]

ENGINES = [pytest.param({}, id="default")]
if VERSION >= (3, 4):
    ENGINES += [pytest.param({"engine": "litellm"}, id="litellm")]


@pytest.fixture(params=["memory", "disk"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A fresh cache of one kind."""
    kept = dspy.cache
    in_memory = request.param == "memory"
    dspy.configure_cache(enable_disk_cache=not in_memory, enable_memory_cache=in_memory, disk_cache_dir=str(tmp_path))
    yield dspy.cache
    if not in_memory:
        dspy.cache.disk_cache.close()
    dspy.cache = kept


def an_lm(server: LMServer, **options: Any) -> dspy.LM:
    return dspy.LM("openai/test-model", **{**server.lm_kwargs(), "temperature": 1.0, **options})


@pytest.mark.parametrize("options", ENGINES)
def test_what_a_sync_call_has_cached_a_bridged_call_finds_and_the_other_way_round(
    server: LMServer, cache: Any, options: dict[str, Any]
) -> None:
    lm = an_lm(server, **options)
    first = lm("sync first")
    assert alone(lambda: lm("sync first"), engine="loop") == first
    assert alone(lambda: lm("sync first"), engine="thread") == first
    second = alone(lambda: lm("bridged first"), engine="loop")
    assert lm("bridged first") == second
    assert server.stats().requests == 2
    assert [bool(entry["usage"]) for entry in lm.history] == [True, False, False, True, False]


def test_async_calls_of_the_users_own_keep_their_entries(server: LMServer, cache: Any) -> None:
    from dspy_parallel import seams

    seams.uninstall()
    lm = an_lm(server)
    asyncio.run(lm.acall("hello"))
    seams.install()
    asyncio.run(lm.acall("hello"))
    assert server.stats().requests == 1


def test_embedders_share_entries(server: LMServer, cache: Any) -> None:
    embed = dspy.Embedder("openai/test-embedding", **server.lm_kwargs())
    first = embed(["a", "b"])
    assert (alone(lambda: embed(["a", "b"]), engine="loop") == first).all()
    second = alone(lambda: embed("c"), engine="loop")
    assert (embed("c") == second).all()
    assert server.stats().requests == 2


@pytest.mark.parametrize("engine", ["loop", "thread", "auto"])
def test_a_hundred_identical_calls_make_one_request(server: LMServer, engine: Any) -> None:
    dspy.cache.reset_memory_cache()
    lm = an_lm(server)
    server.configure(latency=0.05)

    def program() -> Any:
        with dspy.track_usage() as usage:
            return lm("the same"), usage.get_total_tokens()

    bridged = together(program, 100, engine=engine)
    assert server.stats().requests == 1
    history = [entry["usage"] for entry in lm.history]
    dspy.cache.reset_memory_cache()
    dspy.cache.disk_cache.clear()
    lm.history.clear()
    sequential = [program() for _ in range(100)]
    assert sorted(map(repr, bridged)) == sorted(map(repr, sequential))
    assert sorted(map(repr, history)) == sorted(repr(entry["usage"]) for entry in lm.history)
    assert single_flight._flights == {}


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        ({"rollout_id": 1}, {"rollout_id": 2}, {}),
        ({"temperature": 0.1}, {"temperature": 0.2}, {}),
        ({}, {}, {"cache": False}),
        ({"cache": False}, {"cache": False}, {}),
    ],
    ids=["rollout_id", "temperature", "no cache", "no cache for the call"],
)
def test_calls_that_a_sequential_program_would_make_twice_are_made_twice(
    server: LMServer, first: dict[str, Any], second: dict[str, Any], options: dict[str, Any]
) -> None:
    lm = an_lm(server, **options)
    server.configure(gate=2)  # both must be in flight
    together(lambda n: lm("the same", **(second if n else first)), 2, engine="loop")
    assert server.stats().requests == 2


def test_keys_of_the_provider_do_not_set_calls_apart(server: LMServer) -> None:
    lms = [an_lm(server, api_key=key) for key in ("one", "two")]
    server.configure(latency=0.05)
    together(lambda n: lms[n]("same but for the key"), 2, engine="loop")
    assert server.stats().requests == 1


def test_if_the_first_is_cancelled_the_next_takes_its_place(server: LMServer) -> None:
    lm = an_lm(server)
    server.configure(hold=True)

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(run(lm, "cancelled first", engine="loop")) for _ in range(4)]
        await server.await_for(held=1)
        tasks[0].cancel()
        tasks[2].cancel()  # one that only waits
        await server.await_for(requests=2)
        await server.arelease()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, False, True, False]
    assert results[1] == results[3]
    assert server.stats().requests == 2


def test_if_the_first_fails_the_others_try_themselves(server: LMServer) -> None:
    lm = an_lm(server, num_retries=0)
    server.configure(faults=[{"kind": "500", "times": 1}], latency=0.05)

    async def main() -> list[Any]:
        runs = (run(lm, "fails first", engine="loop") for _ in range(5))
        return await asyncio.gather(*runs, return_exceptions=True)

    results = asyncio.run(main())
    assert [isinstance(result, Exception) for result in results].count(True) == 1
    assert server.stats().requests == 2


def test_when_a_provider_is_down_calls_do_not_fail_one_after_the_other(server: LMServer) -> None:
    lm = an_lm(server, num_retries=0)
    server.configure(faults=[{"kind": "401"}])

    async def main() -> list[Any]:
        runs = (run(lm, "always fails", engine="loop") for _ in range(10))
        return await asyncio.gather(*runs, return_exceptions=True)

    assert all(isinstance(result, Exception) for result in asyncio.run(main()))
    stats = server.stats()
    assert stats.requests == 10
    assert single_flight._flights == {}


def test_loops_do_not_wait_for_each_other(server: LMServer) -> None:
    """A future of one loop must not be awaited on another."""
    lm = an_lm(server)
    server.configure(gate=2)
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(asyncio.run(run(lm, "two loops", engine="loop"))))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(results) == 2
    assert server.stats().requests == 2


def test_an_lm_made_of_its_own_kind_does_not_wait_for_itself(server: LMServer) -> None:
    class Wrapper(dspy.LM):
        inner: Any = None

        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise AssertionError("the bridge uses aforward")

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            if self.inner is not None:
                self.inner(prompt)  # an equal call, by every mark
            return await super().aforward(prompt=prompt, messages=messages, **kwargs)

        async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            await self.aforward(prompt=prompt, messages=messages, **kwargs)
            return ["done"]

        def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise AssertionError("the bridge uses acall")

    options = {**server.lm_kwargs(), "temperature": 1.0}
    outer, inner = Wrapper("openai/test-model", **options), Wrapper("openai/test-model", **options)
    outer.inner = inner
    assert alone(lambda: outer("hello"), engine="loop") == ["done"]


@pytest.mark.skipif(VERSION < (3, 4), reason="older DSPy opens its cache when it is imported")
@pytest.mark.parametrize("limited", [False, True])
def test_the_cache_is_not_opened_on_the_loop(limited: bool, tmp_path: Path) -> None:
    """It takes a tenth of a second, and falls into the first call."""
    program = f"""
    import asyncio, threading
    import diskcache, dspy
    from dspy_parallel import limit, run
    from dspy_parallel.testing import LMServer
    where, open_ = [], diskcache.Cache.__init__
    def opened(*args, **kwargs):
        where.append(threading.current_thread())
        open_(*args, **kwargs)
    diskcache.Cache.__init__ = opened
    with LMServer() as server:
        lm = dspy.LM("openai/test-model", cache=True, **server.lm_kwargs())
        if {limited}:
            limit(lm, max_in_flight=2)
        async def main():
            await asyncio.gather(*(run(lm, f"hello {{n % 2}}", engine="loop") for n in range(4)))
        asyncio.run(main())
        assert server.stats().requests == 2
    assert where and threading.main_thread() not in where, where
    """
    environment = {**os.environ, "DSPY_CACHEDIR": str(tmp_path)}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=280,
    )
