"""Checkpoints and stores in Postgres, where a server is installed (Debian: `apt-get install postgresql`)."""

from __future__ import annotations

import asyncio
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.test_savers import State, builder, config

postgres = pytest.importorskip("langgraph.checkpoint.postgres", exc_type=ImportError)
aio = pytest.importorskip("langgraph.checkpoint.postgres.aio", exc_type=ImportError)


def _program(name: str) -> str | None:
    found = shutil.which(name) or max(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), default=None)
    return found


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no Postgres server is installed")
    directory = tempfile.mkdtemp(prefix="dspy-parallel-pg-")
    prefix: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("Postgres does not run as root, and there is no user postgres")
        os.chown(directory, user.pw_uid, user.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]
    data = str(Path(directory, "data"))

    def run(*command: str) -> None:
        subprocess.run([*prefix, *command], check=True, stdout=subprocess.DEVNULL, timeout=250, cwd="/")

    try:
        run(initdb, "-D", data, "-U", "postgres", "--auth=trust")
        # On a socket in the directory, and on no port.
        run(pg_ctl, "-D", data, "-w", "-l", f"{directory}/log", "-o", f"-k {directory} -c listen_addresses=''", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={directory}"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def test_sync_saver(url: str) -> None:
    """Which has no async methods, under `invoke` and under `ainvoke`."""
    with postgres.PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        graph = builder().compile(checkpointer=saver)
        assert graph.invoke({}, config("a"))["__interrupt__"]
        assert graph.invoke(Command(resume="yes"), config("a")) == {"log": ["first", "yes"]}

        async def main() -> None:
            await graph.ainvoke({}, config("b"))
            assert (await graph.aget_state(config("b"))).next == ("ask",)
            assert await graph.ainvoke(Command(resume="yes"), config("b")) == {"log": ["first", "yes"]}
            assert len([state async for state in graph.aget_state_history(config("b"))]) == 4

        asyncio.run(main())


def test_subclass_that_overrides_a_sync_method_only(url: str) -> None:
    puts = []

    class Counting(postgres.PostgresSaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            puts.append(threading.current_thread())
            return super().put(*args, **kwargs)

    with Counting.from_conn_string(url) as saver:
        saver.setup()
        graph = builder().compile(checkpointer=saver)
        asyncio.run(graph.ainvoke({}, config("e")))
    assert len(puts) == 3
    assert len(set(puts)) == 1


def test_async_saver(url: str) -> None:
    async def main() -> None:
        async with aio.AsyncPostgresSaver.from_conn_string(url) as saver:
            await saver.setup()
            graph = builder().compile(checkpointer=saver)
            await graph.ainvoke({}, config("c"))
            result = await asyncio.to_thread(graph.invoke, Command(resume="yes"), config("c"))
            assert result == {"log": ["first", "yes"]}

    asyncio.run(main())


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_async_saver_and_store_used_in_a_node(url: str, engine: Any) -> None:
    stores = pytest.importorskip("langgraph.store.postgres.aio", exc_type=ImportError)

    async def main() -> None:
        async with (
            aio.AsyncPostgresSaver.from_conn_string(url) as saver,
            stores.AsyncPostgresStore.from_conn_string(url) as store,
        ):
            await saver.setup()
            await store.setup()

            def node(state: State) -> Any:
                store.put(("a",), "key", {"n": 1})
                return {"log": [store.get(("a",), "key").value, saver.get_tuple(config("nowhere"))]}

            graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
            compiled = parallelize_graph(graph, engine=engine).compile(checkpointer=saver, store=store)
            assert (await compiled.ainvoke({}, config(f"d{engine}")))["log"] == [{"n": 1}, None]

    asyncio.run(main())
