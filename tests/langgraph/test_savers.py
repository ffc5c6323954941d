"""Checkpoint savers: those without async methods, those of another event loop, and a process that dies."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import operator
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import run_sync
from dspy_parallel.errors import BridgeError
from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.langgraph.savers import adapted
from tests.support.children import PRELOADED, run_child

sqlite = pytest.importorskip("langgraph.checkpoint.sqlite", exc_type=ImportError)
aio = pytest.importorskip("langgraph.checkpoint.sqlite.aio", exc_type=ImportError)


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def first(state: State) -> Any:
    return {"log": ["first"]}


def ask(state: State) -> Any:
    return {"log": [interrupt("go on?")]}


def builder() -> Any:
    return parallelize_graph(StateGraph(State).add_sequence([first, ask]).add_edge(START, "first"))


def config(thread: str = "1") -> Any:
    return {"configurable": {"thread_id": thread}}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "checkpoints.db")


@pytest.fixture
def saver(path: str) -> Iterator[Any]:
    with sqlite.SqliteSaver.from_conn_string(path) as saver:
        yield saver


def check(path: str) -> None:
    """Another, stock process' view of what was stored."""
    with sqlite.SqliteSaver.from_conn_string(path) as saver:
        graph = StateGraph(State).add_sequence([first, ask]).add_edge(START, "first").compile(checkpointer=saver)
        assert graph.get_state(config()).values == {"log": ["first", "yes"]}
        assert len(list(graph.get_state_history(config()))) == 4


def test_sync_saver_under_invoke(saver: Any, path: str) -> None:
    graph = builder().compile(checkpointer=saver)
    assert graph.invoke({}, config())["__interrupt__"]
    assert graph.get_state(config()).next == ("ask",)
    assert graph.invoke(Command(resume="yes"), config()) == {"log": ["first", "yes"]}
    assert len(list(graph.get_state_history(config(), limit=2))) == 2
    check(path)


def test_sync_saver_under_ainvoke(saver: Any, path: str) -> None:
    graph = builder().compile(checkpointer=saver)

    async def main() -> None:
        assert (await graph.ainvoke({}, config()))["__interrupt__"]
        assert (await graph.aget_state(config())).next == ("ask",)
        assert await graph.ainvoke(Command(resume="yes"), config()) == {"log": ["first", "yes"]}

    asyncio.run(main())
    check(path)


def test_sync_saver_is_used_by_one_thread_of_its_own(path: str) -> None:
    threads = set()

    class Watching(sqlite.SqliteSaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            threads.add(threading.current_thread())
            return super().put(*args, **kwargs)

        def put_writes(self, *args: Any, **kwargs: Any) -> Any:
            threads.add(threading.current_thread())
            return super().put_writes(*args, **kwargs)

    with Watching.from_conn_string(path) as saver:
        graph = builder().compile(checkpointer=saver)
        asyncio.run(graph.abatch([{}] * 5, [config(str(n)) for n in range(5)]))
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_subclass_that_overrides_a_sync_method_only() -> None:
    puts = []

    class Counting(InMemorySaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            puts.append(1)
            return super().put(*args, **kwargs)

    graph = builder().compile(checkpointer=Counting())
    asyncio.run(graph.ainvoke({}, config()))
    assert len(puts) == 3


def test_saver_that_cannot_be_hashed() -> None:
    """As dataclasses, which moreover equal each other."""
    puts = []

    @dataclasses.dataclass
    class Counting(InMemorySaver):
        name: str = "same"

        def __post_init__(self) -> None:
            super().__init__()

        def put(self, *args: Any, **kwargs: Any) -> Any:
            puts.append((self, threading.current_thread()))
            return super().put(*args, **kwargs)

    savers = [Counting(), Counting()]
    for saver in savers:
        asyncio.run(builder().compile(checkpointer=saver).ainvoke({}, config()))
    assert [id(saver) for saver, _ in puts] == [id(savers[0])] * 3 + [id(savers[1])] * 3
    assert len({thread for _, thread in puts}) == 2


def test_thread_ends_with_the_saver() -> None:
    threads = []

    class Watching(InMemorySaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            threads.append(threading.current_thread())
            return super().put(*args, **kwargs)

    asyncio.run(builder().compile(checkpointer=Watching()).ainvoke({}, config()))
    while threads[0].is_alive():  # a thread that ran a node may not have let go of it yet
        gc.collect()
        threads[0].join(1)


_FORKING = """
import asyncio, os, signal
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from dspy_parallel.langgraph import parallelize_graph

class SyncOnly(InMemorySaver):
    def put(self, *args, **kwargs):
        return super().put(*args, **kwargs)

graph = StateGraph(dict).add_node("node", lambda state: {"done": True}).add_edge(START, "node")
graph = parallelize_graph(graph).compile(checkpointer=SyncOnly())

def invoke(thread):
    return asyncio.run(graph.ainvoke({}, {"configurable": {"thread_id": thread}}))

invoke("parent")
child = os.fork()
if child == 0:
    signal.alarm(250)
    os._exit(0 if invoke("child") == {"done": True} else 1)
_, status = os.waitpid(child, 0)
assert status == 0 and invoke("parent again") == {"done": True}
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_forked_process_has_a_thread_of_its_own_for_the_saver() -> None:
    run_child(_FORKING, python=PRELOADED)


def test_savers_that_need_nothing_are_used_as_they_are() -> None:
    for saver in (InMemorySaver(), None, True, False):
        assert adapted(saver) is saver


def test_async_saver_from_async_code(path: str) -> None:
    async def main() -> None:
        async with aio.AsyncSqliteSaver.from_conn_string(path) as saver:
            graph = builder().compile(checkpointer=saver)
            await graph.ainvoke({}, config())
            assert await graph.ainvoke(Command(resume="yes"), config()) == {"log": ["first", "yes"]}

    asyncio.run(main())
    check(path)


def test_async_saver_from_sync_code(path: str) -> None:
    """On its own loop's thread, where stock raises InvalidStateError, and from another thread, as stock."""

    async def main() -> None:
        async with aio.AsyncSqliteSaver.from_conn_string(path) as saver:
            graph = builder().compile(checkpointer=saver)
            graph.invoke({}, config())
            assert graph.get_state(config()).next == ("ask",)
            assert run_sync(lambda: graph.get_state(config()).next) == ("ask",)
            result = await asyncio.to_thread(graph.invoke, Command(resume="yes"), config())
            assert result == {"log": ["first", "yes"]}

    asyncio.run(main())
    check(path)


_BLOCKING = """
import asyncio
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from dspy_parallel.errors import BridgeError
from dspy_parallel.langgraph import parallelize_graph

class Saver(AsyncSqliteSaver):
    def put(self, *args, **kwargs):
        return super().put(*args, **kwargs)

builder = StateGraph(dict).add_node("node", lambda state: {"done": True}).add_edge(START, "node")
config = {"configurable": {"thread_id": "1"}}

async def main():
    async with Saver.from_conn_string(":memory:") as saver:
        graph = parallelize_graph(builder).compile(checkpointer=saver)
        try:
            graph.invoke({}, config)
        except BridgeError as exc:
            assert "Saver.put() has no async counterpart" in str(exc)
        else:
            raise AssertionError
        assert await graph.ainvoke({}, config) == {"done": True}
        assert await asyncio.to_thread(graph.invoke, {}, config) == {"done": True}

asyncio.run(main())
"""


def test_sync_method_that_would_wait_for_the_blocked_loop_is_refused() -> None:
    """Stock refuses with InvalidStateError."""
    run_child(_BLOCKING, python=PRELOADED)


_BATCH = """
import asyncio
import dspy
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from dspy_parallel import batch, install, iter_batch, parallel_map
from dspy_parallel.langgraph import parallelize_graph

install(executors=True)
builder = StateGraph(dict).add_node("node", lambda state: {"done": True}).add_edge(START, "node")
threads = [{"configurable": {"thread_id": str(number)}} for number in range(3)]

async def main(name):
    async with AsyncSqliteSaver.from_conn_string(":memory:") as saver:
        graph = parallelize_graph(builder).compile(checkpointer=saver)

        def one(config):
            return graph.invoke({}, config)

        class One(dspy.Module):
            def forward(self, config):
                return one(config)

        rows, items = [(config,) for config in threads], [(One(), {"config": config}) for config in threads]
        done = {
            "batch": lambda: batch(one, rows, progress=False),
            "iter_batch": lambda: [each.result for each in iter_batch(one, rows, progress=False)],
            "parallel_map": lambda: parallel_map(one, threads),
            "Parallel": lambda: dspy.Parallel(disable_progress_bar=True)(items),
            "nested": lambda: parallel_map(lambda config: batch(one, [(config,)], progress=False)[0], threads),
        }[name]()
        assert done == [{"done": True}] * 3, (name, done)
        assert (await graph.aget_state(threads[0])).values == {"done": True}

for name in ("batch", "iter_batch", "parallel_map", "Parallel", "nested"):
    asyncio.run(main(name))
"""


def test_batches_on_the_loop_of_the_saver() -> None:
    """They block that loop; so the saver's work is done on the one that the graphs run on."""
    run_child(_BATCH, python=PRELOADED)


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_saver_and_state_used_inside_a_node(path: str, engine: Any) -> None:
    """Where stock raises InvalidStateError, or blocks."""

    async def main() -> None:
        async with aio.AsyncSqliteSaver.from_conn_string(path) as saver:
            other = builder().compile(checkpointer=saver)
            await other.ainvoke({}, config("other"))

            def node(state: State) -> Any:
                found = saver.get_tuple(config("other"))
                listed = len(list(saver.list(config("other"))))
                return {"log": [found is not None, listed, other.get_state(config("other")).next]}

            graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
            result = await parallelize_graph(graph, engine=engine).compile(checkpointer=saver).ainvoke({}, config())
            assert result["log"] == [True, 3, ("ask",)]

    asyncio.run(main())


def test_strict_serialisation_keeps_the_adapter(saver: Any) -> None:
    adapter = adapted(saver)
    assert adapter is adapted(adapter) is adapted(saver)
    assert adapter.serde is saver.serde
    assert adapter.conn is saver.conn


_DYING = """
import asyncio, operator, os, signal, sys
from typing import Annotated
from typing_extensions import TypedDict
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, StateGraph
from dspy_parallel.langgraph import parallelize_graph

class State(TypedDict, total=False):
    log: Annotated[list, operator.add]

def note(name):
    with open(calls, "a") as file:
        file.write(name + "\\n")

def first(state):
    note("first")
    return {"log": ["first"]}

def is_first_stored():
    with SqliteSaver.from_conn_string(database) as other:
        stored = other.get_tuple(config)
        values = [stored.checkpoint["channel_values"].get("log"), *(value for *_, value in stored.pending_writes)]
        return ["first"] in values

async def second(state):
    note("second")
    if not os.path.exists(died):
        while not is_first_stored():
            await asyncio.sleep(0.01)
        open(died, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"log": ["second"]}

def third(state):
    note("third")
    return {"log": ["third"]}

config = {"configurable": {"thread_id": "1"}}

def sequence():
    return StateGraph(State).add_sequence([first, second, third]).add_edge(START, "first")

def fan_out():
    builder = StateGraph(State).add_node(first).add_node(second).add_node(third)
    return builder.add_edge(START, "first").add_edge(START, "second").add_edge(["first", "second"], "third")

def invoke():
    with SqliteSaver.from_conn_string(database) as saver:
        graph = builder.compile(checkpointer=saver)
        given = None if graph.get_state(config).next else {}
        return graph.invoke(given, config, durability="sync")

async def ainvoke(savers):
    async with savers as saver:
        graph = builder.compile(checkpointer=saver)
        given = None if (await graph.aget_state(config)).next else {}
        return await graph.ainvoke(given, config, durability="sync")

class Sync:
    # SqliteSaver under ainvoke, which stock refuses.
    async def __aenter__(self):
        self.savers = SqliteSaver.from_conn_string(database)
        return self.savers.__enter__()

    async def __aexit__(self, *exc):
        self.savers.__exit__(*exc)

ways = {
    "invoke": (sequence, invoke),
    "ainvoke": (sequence, lambda: asyncio.run(ainvoke(Sync()))),
    "ainvoke, async saver": (sequence, lambda: asyncio.run(ainvoke(AsyncSqliteSaver.from_conn_string(database)))),
    "fan-out": (fan_out, invoke),
}
# What takes longest are the imports: each attempt is a fork of this process.
for way, (build, run) in ways.items():
    database, calls, died = (os.path.join(sys.argv[1], f"{way} {name}") for name in ("database", "calls", "died"))
    for attempt in ("killed", "again"):
        if (child := os.fork()) == 0:
            builder = parallelize_graph(build())
            os._exit(0 if run() == {"log": ["first", "second", "third"]} else 1)
        print(way, attempt, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sorted(open(calls).read().split()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_process_resumes(tmp_path: Path) -> None:
    """Killed in the second node: nothing is lost, and the first node, before or beside it, does not run again."""
    child = run_child(f"import sys; sys.argv = ['', {str(tmp_path)!r}]\n{_DYING}", python=PRELOADED)
    told = []
    for way in ("invoke", "ainvoke", "ainvoke, async saver", "fan-out"):
        told += [f"{way} killed {-signal.SIGKILL} ['first', 'second']"]
        told += [f"{way} again 0 ['first', 'second', 'second', 'third']"]
    assert child.out.splitlines() == told


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_async_store_used_synchronously_in_a_node(engine: Any) -> None:
    stores = pytest.importorskip("langgraph.store.sqlite.aio", exc_type=ImportError)

    def node(state: State, *, store: Any) -> Any:
        store.put(("a",), "key", {"n": 1})
        return {"log": [store.get(("a",), "key").value, len(store.search(("a",)))]}

    from langgraph.store.base import BaseStore

    node.__annotations__ = {"state": State, "store": BaseStore}

    async def main() -> None:
        async with stores.AsyncSqliteStore.from_conn_string(":memory:") as store:
            await store.setup()
            graph = StateGraph(State).add_node("node", node).add_edge(START, "node")
            result = await parallelize_graph(graph, engine=engine).compile(store=store).ainvoke({})
            assert result["log"] == [{"n": 1}, 1]

    asyncio.run(main())


def test_async_store_used_in_a_node_that_its_loop_waits_for() -> None:
    """Refused, as by stock, and nothing is stored later."""
    stores = pytest.importorskip("langgraph.store.sqlite.aio", exc_type=ImportError)

    async def main() -> None:
        async with stores.AsyncSqliteStore.from_conn_string(":memory:") as store:
            await store.setup()

            def node(state: State) -> Any:
                store.put(("a",), "key", {"n": 1})

            graph = parallelize_graph(StateGraph(State).add_node("node", node).add_edge(START, "node")).compile()
            with pytest.raises(BridgeError, match=r"AsyncSqliteStore.put\(\) was called"):
                graph.invoke({})
            assert await store.aget(("a",), "key") is None
            await asyncio.to_thread(graph.invoke, {})
            assert await store.aget(("a",), "key") is not None

    asyncio.run(main())
