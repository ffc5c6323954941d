"""Connection pools without a cap of their own, and the limit of open files."""

from __future__ import annotations

import asyncio
import importlib.util
import resource
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

from dspy_parallel import FileLimitWarning, limit, seams
from dspy_parallel.seams.connections import RESERVED, STOCK, max_connections
from dspy_parallel.testing import LMServer
from tests.bridge.children import run_child
from tests.limits.programs import WAYS, make_lm

NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None


@pytest.fixture
def file_limits() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


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
        server.configure(gate=count, max_hold=50)
        results = WAYS["by_hand"](lm, [f"item {n}" for n in range(count)])
        assert sum(isinstance(getattr(r, "answer", None), str) for r in results) == count
        assert server.stats().peak_in_flight == count


@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
def test_connections_above_descriptor_1023_are_used_again(server: LMServer) -> None:
    """DSPy's check with select() takes them for dead."""
    count = 1100
    lm = make_lm(server, num_retries=0)
    seams.install()

    async def main() -> None:
        server.configure(gate=count, max_hold=50)
        await asyncio.gather(*(lm.acall(f"item {n}") for n in range(count)))
        server.configure(gate=count, max_hold=50)
        await asyncio.gather(*(lm.acall(f"again {n}") for n in range(count)))
        pools = [engine.router._transport.pool_stats() for key, engine in lm._engine_store.items() if key[0]]
        assert [pool["total_opened"] for pool in pools] == [count]
        await lm.aclose()

    asyncio.run(main())


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
        """,
        timeout=100,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_several_lms_share_the_files(engine: str) -> None:
    """Each could have them all, and together they ask for twice as many as there are: a warning, and no call lost."""
    run_child(
        f"""
        import asyncio, dspy, resource, warnings
        from dspy_parallel import FileLimitWarning, limit
        from dspy_parallel.testing import LMServer

        with LMServer(latency=0.5) as server, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))
            options = {ENGINES[engine]}
            lms = [dspy.LM("openai/any", cache=False, num_retries=0, **server.lm_kwargs(), **options) for _ in "12"]
            for n, lm in enumerate(lms):
                lm.kwargs["api_key"] = f"key {{n}}"
                limit(lm, max_in_flight=340)
            (warning,) = [w for w in caught if w.category is FileLimitWarning]
            assert "max_in_flight=340, with 340 of other limits, is more than the 344" in str(warning.message)

            async def main():
                await asyncio.gather(*(lms[n % 2].acall(f"item {{n}}") for n in range(680)))
                for lm in lms:
                    if hasattr(lm, "aclose"):
                        await lm.aclose()

            asyncio.run(main())
            stats = server.stats()
            assert stats.completed == 680, stats
            assert 300 <= stats.peak_connections <= 400, stats
        """,
        timeout=100,
    )


@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
def test_a_pool_that_is_done_makes_room() -> None:
    """On another loop, which has ended with its connections open; on one that runs; and in threads."""
    run_child(
        """
        import asyncio, dspy, resource, threading
        from concurrent.futures import ThreadPoolExecutor
        from dspy_parallel import seams
        from dspy_parallel.testing import LMServer

        COUNT = 200
        seams.install()

        def new():
            lm = dspy.LM("openai/any", cache=False, num_retries=0, **server.lm_kwargs())
            server.reset_stats()
            server.configure(gate=COUNT, max_hold=30)
            return lm

        async def many(lm):
            await asyncio.gather(*(lm.acall(f"item {n}") for n in range(COUNT)))
            assert server.stats().peak_in_flight == COUNT

        with LMServer() as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (800, 800))
            lms = [new()]
            asyncio.run(many(lms[0]))

            lms.append(new())
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            asyncio.run_coroutine_threadsafe(many(lms[1]), loop).result(60)

            lms.append(new())
            with ThreadPoolExecutor(COUNT) as pool:
                list(pool.map(lms[2], [f"item {n}" for n in range(COUNT)]))
            assert server.stats().peak_in_flight == COUNT

            lms.append(new())
            asyncio.run(many(lms[3]))
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
        """,
        timeout=100,
    )


def test_limits_that_are_over_do_not_count(recwarn: Any) -> None:
    """Lifted ones, and those that an LM had before."""
    half = max_connections() // 2 + 1
    first, second = dspy.LM("openai/any"), dspy.LM("openai/any")
    kept = [limit(first, max_in_flight=half), limit(first, max_in_flight=half)]
    kept[1].lift()
    kept.append(limit(second, max_in_flight=half))
    assert not [w for w in recwarn if w.category is FileLimitWarning]
    kept.append(limit(first, max_in_flight=half))
    assert [w for w in recwarn if w.category is FileLimitWarning]


def test_enough_files(recwarn: Any) -> None:
    """No warning."""
    limit(dspy.LM("openai/any"), max_in_flight=STOCK)
    assert not [w for w in recwarn if w.category is FileLimitWarning]
