"""Tasks that async nodes create: their sync calls wait in the bridge, and they are tasks as ever."""

from __future__ import annotations

import asyncio
import contextvars
import operator
import sys
from typing import Annotated, Any

import anyio
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from dspy_parallel import await_, in_bridge
from dspy_parallel.bridge.start_pace import Turns
from dspy_parallel.langgraph import parallelize_graph
from tests.support.loops import LOOP_KINDS, run_on

pytestmark = pytest.mark.usefixtures("no_leaks")

WIDTH = 5


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]


def single(node: Any, engine: Any = "auto", **options: Any) -> Any:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return parallelize_graph(builder, engine=engine).compile(**options)


class Meeting:
    """Lets nobody pass before all have come."""

    def __init__(self) -> None:
        self.come = 0
        self.everybody = asyncio.Event()

    async def arrive(self) -> None:
        self.come += 1
        if self.come == WIDTH:
            self.everybody.set()
        await self.everybody.wait()


def sync(meeting: Meeting, n: int) -> int:
    """What DSPy does in a sync call."""
    assert in_bridge()
    await_(meeting.arrive())
    return n


async def part(meeting: Meeting, n: int) -> int:
    await asyncio.sleep(0)
    return sync(meeting, n)


async def gather(meeting: Meeting) -> list[int]:
    return await asyncio.gather(*(part(meeting, n) for n in range(WIDTH)))


async def create_task(meeting: Meeting) -> list[int]:
    tasks = [asyncio.create_task(part(meeting, n), name=str(n)) for n in range(WIDTH)]
    assert [task.get_name() for task in tasks] == [str(n) for n in range(WIDTH)]
    return [await task for task in tasks]


async def as_completed(meeting: Meeting) -> list[int]:
    return sorted([await done for done in asyncio.as_completed([part(meeting, n) for n in range(WIDTH)])])


async def wait_for(meeting: Meeting) -> list[int]:
    return await asyncio.gather(*(asyncio.wait_for(part(meeting, n), 60) for n in range(WIDTH)))


async def nested(meeting: Meeting) -> list[int]:
    async def pair(n: int) -> list[int]:
        return await asyncio.gather(*(part(meeting, n + i) for i in range(2) if n + i < WIDTH))

    return [n for both in await asyncio.gather(*(pair(n) for n in range(0, WIDTH, 2))) for n in both]


async def task_group(meeting: Meeting) -> list[int]:
    if sys.version_info < (3, 11):
        pytest.skip("TaskGroup came with Python 3.11")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part(meeting, n)) for n in range(WIDTH)]
    return [task.result() for task in tasks]


async def anyio_group(meeting: Meeting) -> list[int]:
    results = []

    async def add(n: int) -> None:
        results.append(await part(meeting, n))

    async with anyio.create_task_group() as group:
        for n in range(WIDTH):
            group.start_soon(add, n)
    return sorted(results)


async def graphs(meeting: Meeting) -> list[int]:
    inner = StateGraph(State).add_node("inner", lambda state: {"log": [sync(meeting, state["log"][0])]})
    graph = inner.add_edge(START, "inner").compile()
    states = await asyncio.gather(*(graph.ainvoke({"log": [n]}) for n in range(WIDTH)))
    return [state["log"][1] for state in states]


@pytest.mark.parametrize(
    ("loop_kind", "engine"), [*((kind, "auto") for kind in LOOP_KINDS), ("asyncio", "loop"), ("asyncio", "thread")]
)
@pytest.mark.parametrize(
    "way",
    [gather, create_task, as_completed, wait_for, nested, task_group, anyio_group, graphs],
    ids=lambda w: w.__name__,
)
def test_sync_calls_in_tasks_wait_together(loop_kind: str, way: Any, engine: Any) -> None:
    async def node(state: State) -> Any:
        return {"log": await way(Meeting())}

    if loop_kind == "eager" and way is anyio_group:
        pytest.skip("there anyio makes its tasks without the loop")

    async def main() -> None:
        assert (await asyncio.wait_for(single(node, engine).ainvoke({}), 60))["log"] == list(range(WIDTH))

    run_on(loop_kind, main)


def test_under_invoke() -> None:
    async def node(state: State) -> Any:
        return {"log": await gather(Meeting())}

    assert single(node).invoke({})["log"] == list(range(WIDTH))


def test_cancelling_the_node_cancels_its_tasks(loop_kind: str) -> None:
    """Where their sync code waits."""
    ended = []

    async def hang(begun: asyncio.Event) -> None:
        begun.set()
        try:
            await_(asyncio.sleep(60))
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        ended.append("went on")

    async def main() -> None:
        begun = asyncio.Event(), asyncio.Event()

        async def node(state: State) -> Any:
            await asyncio.gather(*map(hang, begun))
            ended.append("node went on")

        running = asyncio.ensure_future(single(node).ainvoke({}))
        for event in begun:
            await event.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        while len(ended) < 2:
            await asyncio.sleep(0)

    run_on(loop_kind, main)
    assert ended == ["cancelled", "cancelled"]


def test_cancelled_before_its_first_step() -> None:
    """Python would warn that the coroutine was never awaited, and warnings are errors."""

    async def never() -> None:
        raise AssertionError

    async def node(state: State) -> Any:
        task = asyncio.create_task(never())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return {"log": [task.cancelled()]}

    assert single(node).invoke({})["log"] == [True]


def test_cancelled_before_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never() -> None:
        raise AssertionError

    async def node(state: State) -> Any:
        monkeypatch.setattr(Turns, "take", lambda _: False)
        task = asyncio.create_task(never())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return {"log": [task.cancelled()]}

    assert single(node).invoke({})["log"] == [True]


def test_looks_like_the_coroutine() -> None:
    async def node(state: State) -> Any:
        coroutine = part(meeting, 0)
        task = asyncio.create_task(coroutine, name="mine")
        text = repr(task)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        stack = [frame.f_code.co_name for frame in task.get_stack()][-1]
        same: Any = task.get_coro()
        names = same.__name__, same.__qualname__, same.cr_code is coroutine.cr_code, anyio.get_current_task().id > 0
        task.cancel()
        await asyncio.wait([task])
        return {"log": [text, stack, names]}

    meeting = Meeting()
    text, stack, names = single(node).invoke({})["log"]
    assert "name='mine'" in text
    assert "part()" in text
    assert stack == "part"
    assert names == ("part", "part", True, True)


def test_errors_and_context() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outside")

    async def fail() -> None:
        await_(asyncio.sleep(0))
        assert variable.get() == "node"
        variable.set("task")
        raise ValueError("deep")

    async def node(state: State) -> Any:
        variable.set("node")
        results = await asyncio.gather(fail(), fail(), return_exceptions=True)
        return {"log": [[str(result) for result in results], variable.get()]}

    assert single(node).invoke({})["log"] == [["deep", "deep"], "node"]


def test_interrupts() -> None:
    async def ask() -> str:
        await_(asyncio.sleep(0))
        return interrupt("task?")

    async def node(state: State) -> Any:
        return {"log": await asyncio.gather(ask())}

    graph = single(node, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert [i.value for i in graph.invoke({}, config)["__interrupt__"]] == ["task?"]
    assert graph.invoke(Command(resume="yes"), config)["log"] == ["yes"]


def test_a_lambda_around_a_coroutine_function(loop_kind: str) -> None:
    """LangGraph takes it for a sync node, which it cannot run with invoke()."""

    async def node(state: State) -> Any:
        return {"log": [in_bridge(), await_(asyncio.sleep(0, "waited")), *(await gather(Meeting()))]}

    async def main() -> None:
        expected = [True, "waited", *range(WIDTH)]
        for engine in ("auto", "loop", "thread"):
            assert (await single(lambda state: node(state), engine).ainvoke({}))["log"] == expected

    run_on(loop_kind, main)


def test_other_tasks_are_not_touched() -> None:
    """Those of sync nodes, and of code that is no node's."""

    async def kind() -> Any:
        return type(asyncio.current_task().get_coro()).__name__  # type: ignore[union-attr]

    def node(state: State) -> Any:
        async def make() -> Any:
            return await asyncio.create_task(kind())

        return {"log": [await_(make())]}

    async def main() -> None:
        assert (await single(node).ainvoke({}))["log"] == ["coroutine"]
        assert await asyncio.create_task(kind()) == "coroutine"

    asyncio.run(main())
