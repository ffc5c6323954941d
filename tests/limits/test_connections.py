"""Connection pools without a cap of their own, and the limit of open files."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import resource
import weakref
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from dspy_parallel import FileLimitWarning, limit, seams
from dspy_parallel.seams.connections import RESERVED, STOCK, max_connections
from dspy_parallel.testing import LMServer
from tests.limits.programs import WAYS, make_lm
from tests.support.children import run_child

NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None


@pytest.fixture
def file_limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of other tests, which the garbage collector has not come to yet, don't count."""
    monkeypatch.setattr("dspy_parallel.limits.assignment._limits", weakref.WeakValueDictionary())


ENGINES: dict[str, Any] = {"litellm": {"engine": "litellm"}, "native": {}} if NATIVE else {"litellm": {}}


@pytest.mark.parametrize(("engine", "count"), [(engine, 150 if engine == "native" else 520) for engine in ENGINES])
def test_more_at_once_than_the_stock_pools_hold(server: LMServer, engine: str, count: int) -> None:
    """All of them are at the server together, or the gate would never open: with and without a limit."""
    lm = make_lm(server, num_retries=0, **ENGINES[engine])
    seams.install()
    for limited in (False, True):
        if limited:
            limit(lm, max_in_flight=count)
        server.restore()
        server.configure(gate=count, max_hold=250)
        results = WAYS["by_hand"](lm, [f"item {n}" for n in range(count)])
        assert sum(isinstance(getattr(r, "answer", None), str) for r in results) == count
        assert server.stats().peak_in_flight == count


@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
def test_connections_above_descriptor_1023_are_used_again(server: LMServer) -> None:
    """DSPy's check with select() takes them for dead."""
    count = 20
    max_connections()  # raises the limit of open files
    taken = [os.open(os.devnull, os.O_RDONLY)]
    while taken[-1] < 1024:
        taken.append(os.open(os.devnull, os.O_RDONLY))
    lm = make_lm(server, num_retries=0)
    seams.install()

    async def main() -> None:
        server.configure(gate=count, max_hold=250)
        await asyncio.gather(*(lm.acall(f"item {n}") for n in range(count)))
        server.configure(gate=count, max_hold=250)
        await asyncio.gather(*(lm.acall(f"again {n}") for n in range(count)))
        pools = [engine.router._transport.pool_stats() for key, engine in lm._engine_store.items() if key[0]]
        assert [pool["total_opened"] for pool in pools] == [count]
        await lm.aclose()

    try:
        asyncio.run(main())
    finally:
        for descriptor in taken:
            os.close(descriptor)


@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
def test_a_size_that_was_chosen_stays() -> None:
    """Whoever builds a transport of a certain size gets it; without the patches, so does everyone."""
    from dspy._vendor.lm15.transports import StdlibAsyncTransport, StdlibTransport

    seams.install()
    for transport in (StdlibAsyncTransport, StdlibTransport):
        assert transport(max_connections=7).max_connections == 7
        assert transport().max_connections == max_connections()
    seams.uninstall()
    assert StdlibTransport().max_connections == STOCK


def test_the_soft_limit_of_files_is_raised(file_limits: None) -> None:
    """As far as the hard one allows, and no further than what is of use."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    available = max_connections()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536))
    assert available == soft - RESERVED


def test_too_few_files() -> None:
    """A hard limit that is too low: a clear warning at once, pools that fit, and no call lost."""
    run_child(
        """
        import resource, warnings
        resource.setrlimit(resource.RLIMIT_NOFILE, (400, 400))
        import asyncio, dspy
        from dspy_parallel import FileLimitWarning, limit
        from dspy_parallel.testing import LMServer

        with LMServer(latency=0.01) as server, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
            limit(lm, max_in_flight=1000)
            (warning,) = [w for w in caught if w.category is FileLimitWarning]
            assert "1,000 is more than the 144 connections" in str(warning.message), warning.message
            assert "ulimit -n" in str(warning.message)
            assert warning.filename == "<string>"

            async def main():
                await asyncio.gather(*(lm.acall(f"item {n}") for n in range(600)))
                if hasattr(lm, "aclose"):
                    await lm.aclose()

            asyncio.run(main())
            stats = server.stats()
            assert stats.completed == 600, stats
            assert stats.peak_connections <= 200, stats
        """
    )


def test_several_limits_that_are_too_much_together(alone: None, recwarn: Any) -> None:
    """Each fits into the files that there are."""
    half = max_connections() // 2 + 1
    kept = [limit(dspy.LM("openai/any"), max_in_flight=half) for _ in range(2)]
    (warning,) = [w for w in recwarn if w.category is FileLimitWarning]
    assert f"max_in_flight={half:,}, with {half:,} of other limits, is more than the" in str(warning.message)
    assert kept


def test_limits_that_are_over_do_not_count(alone: None, recwarn: Any) -> None:
    """Lifted ones, and those that an LM had before."""
    half = max_connections() // 2 + 1
    first, second = dspy.LM("openai/any"), dspy.LM("openai/any")
    kept = [limit(first, max_in_flight=half), limit(first, max_in_flight=half)]
    kept[1].lift()
    kept.append(limit(second, max_in_flight=half))
    assert not [w for w in recwarn if w.category is FileLimitWarning]
    kept.append(limit(first, max_in_flight=half))
    assert [w for w in recwarn if w.category is FileLimitWarning]


def test_enough_files(alone: None, recwarn: Any) -> None:
    """No warning."""
    limit(dspy.LM("openai/any"), max_in_flight=STOCK)
    assert not [w for w in recwarn if w.category is FileLimitWarning]
