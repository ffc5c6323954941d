"""Tools, sync and async, called from programs; agents that use them; MCP."""

# ruff: noqa: B023 - the functions are called before the loop variable changes

from __future__ import annotations

import asyncio
import contextvars
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback

from dspy_parallel import async_module, gather, in_bridge, loop_safe, run, seams
from dspy_parallel.errors import ThreadRequiredError
from tests.seams.programs import PATIENCE, Blocker, Meeting, alone, outcome, together, with_engine

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


async def double(n: int) -> int:
    """Double it."""
    await asyncio.sleep(0)
    return 2 * n


@pytest.mark.parametrize("conversion", [True, False])
@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_an_async_tool_is_awaited_on_the_programs_loop(engine: str, conversion: bool) -> None:
    tool = dspy.Tool(double)

    async def main() -> Any:
        loop = asyncio.get_running_loop()

        async def where(n: int) -> bool:
            return asyncio.get_running_loop() is loop

        def program() -> Any:
            with dspy.context(allow_tool_async_sync_conversion=conversion):
                return tool(n=2), dspy.Tool(where)(n=1)

        return await with_engine(engine, program)

    assert asyncio.run(main()) == (4, True)


class Session:
    """What an MCP session does: a task on its maker's loop answers."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Any] = asyncio.Queue()
        self.reader = asyncio.get_running_loop().create_task(self.read())

    async def read(self) -> None:
        while True:
            n, future = await self.requests.get()
            future.get_loop().call_soon_threadsafe(future.set_result, 2 * n)

    async def double(self, n: int) -> int:
        future = asyncio.get_running_loop().create_future()
        self.requests.put_nowait((n, future))
        return await future  # type: ignore[no-any-return]


def doubling(tool: dspy.Tool, way: str) -> dspy.Module:
    class Doubling(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = dspy.Predict("q -> a"), dspy.Predict("q -> a")

        def forward(self, q: str) -> Any:
            return [self.one(q=q).a, self.other(q=q).a, outcome(lambda: tool(n=2))]

    return (async_module(overlap=True)(Doubling) if way == "overlap" else Doubling)()


def called_in_sync(tool: dspy.Tool, way: str, conversion: bool) -> Any:
    """What a plain call and several at once give; with the way "stock", these are made one after the other."""
    program, calls = doubling(tool, way), [lambda: outcome(lambda: tool(n=2))] * 3
    if way == "stock":
        seams.uninstall()
    with dspy.context(lm=DummyLM([{"a": "yes"}] * 9), allow_tool_async_sync_conversion=conversion):
        return program(q="?"), [call() for call in calls] if way == "stock" else gather(*calls)


@pytest.mark.parametrize("conversion", [True, False])
def test_under_a_sync_caller_an_async_tool_gets_what_dspy_gives_it(conversion: bool) -> None:
    """Awaited elsewhere than on its loop, which the caller blocks, it would never end."""

    async def main(way: str) -> Any:
        session = Session()
        try:
            return called_in_sync(dspy.Tool(session.double), way, conversion)
        finally:
            session.reader.cancel()

    stock = asyncio.run(main("stock"))
    assert asyncio.run(main("overlap")) == stock
    assert stock[1][0][0] in (ValueError, RuntimeError)


@pytest.mark.parametrize("conversion", [True, False])
def test_a_plain_sync_call_converts_async_tools_as_dspy_does(conversion: bool) -> None:
    tool = dspy.Tool(double)
    stock, _ = called_in_sync(tool, "stock", conversion)
    assert called_in_sync(tool, "overlap", conversion)[0] == stock
    assert (stock[2] == ("value", 4)) == conversion


def test_sync_tools_run_in_threads_and_keep_the_bridge() -> None:
    meeting = Meeting(3)

    def meet(n: int) -> Any:
        meeting.wait()
        return threading.current_thread().name, in_bridge()

    tool = dspy.Tool(meet)
    results = together(lambda: tool(n=1))
    assert len({name for name, _ in results}) == 3
    assert all(bridged for _, bridged in results)
    with pytest.raises(ThreadRequiredError, match="the tool meet is a sync function; mark it loop_safe"):
        alone(lambda: tool(n=1), engine="loop")


def test_a_loop_safe_tool_stays_where_its_program_is() -> None:
    @loop_safe
    def where(n: int) -> str:
        return threading.current_thread().name

    tool = dspy.Tool(where)
    assert alone(lambda: tool(n=1), engine="loop") == "MainThread"


def test_results_and_exceptions_are_those_of_a_plain_call() -> None:
    def fail(n: int) -> int:
        raise KeyError(n)

    async def afail(n: int) -> int:
        raise KeyError(n)

    with dspy.context(allow_tool_async_sync_conversion=True):
        for tool, arguments in [
            (dspy.Tool(fail), {"n": 1}),
            (dspy.Tool(afail), {"n": 1}),
            (dspy.Tool(double), {"n": "no number"}),
            (dspy.Tool(double), {"m": 1}),
            (dspy.Tool(fail), {"m": 1}),
        ]:
            plain = outcome(lambda: tool(**arguments))
            assert plain[0] != "value"
            assert outcome(lambda: alone(lambda: tool(**arguments))) == plain


def test_a_function_that_only_returns_a_coroutine() -> None:
    tool = dspy.Tool(lambda n: double(n), name="indirect", args={"n": {"type": "integer"}}, arg_types={"n": int})

    def program() -> Any:
        with dspy.context(allow_tool_async_sync_conversion=True):
            return tool(n=3)

    assert [alone(program), alone(program, engine="thread")] == [6, 6]


def test_context_variables_go_in_and_come_out() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def use(n: int) -> str:
        seen = variable.get()
        variable.set("tool")
        return seen

    def program() -> Any:
        variable.set("program")
        return dspy.Tool(use)(n=1), variable.get()

    assert contextvars.copy_context().run(program) == alone(program) == ("program", "tool")


class Log(BaseCallback):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_tool_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        self.events.append(("start", instance.name, id(instance), inputs))

    def on_tool_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.events.append(("end", outputs, type(exception)))


def test_an_async_tool_may_lead_back_to_itself() -> None:
    async def countdown(n: int) -> list[int]:
        return [n, *(tool(n=n - 1) if n else [])]

    tool = dspy.Tool(countdown)
    assert alone(lambda: tool(n=3), engine="loop") == [3, 2, 1, 0]


def awaited(where: str, program: Any) -> Any:
    """Await an async program, in the bridge or, as DSPy's own async code usually is, outside."""
    return asyncio.run(asyncio.wait_for(run(program) if where == "inside" else program(), PATIENCE))


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_awaiting_a_sync_tool_does_not_block_the_loop(where: str) -> None:
    """Upstream, `Tool.acall` calls a sync function where it stands."""
    blocker = Blocker()

    def block(n: int) -> Any:
        return blocker.block(), in_bridge()

    tool = dspy.Tool(block)

    async def program() -> Any:
        relief = asyncio.create_task(blocker.relieve())
        result = await tool.acall(n=1)
        await relief
        return result

    assert awaited(where, program) == ("left", True)


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_acall_of_a_sync_tool_is_otherwise_unchanged(where: str) -> None:
    """Results, exceptions, context, callbacks: all as without the seams, in whose absence the function runs here."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def note(n: int) -> str:
        seen = variable.get()
        variable.set("tool")
        return seen

    def fail(n: int) -> int:
        raise KeyError(n)

    @loop_safe
    def safe(n: int) -> str:
        return threading.current_thread().name

    tools = [dspy.Tool(fn) for fn in (note, fail, safe, double)]
    tools.append(dspy.Tool(lambda n: double(n), name="indirect", args={"n": {"type": "integer"}}, arg_types={"n": int}))

    async def program() -> Any:
        log = Log()
        variable.set("program")
        with dspy.context(callbacks=[log]):
            for tool in tools:
                for arguments in ({"n": 1}, {"n": "no number"}, {"m": 1}):
                    try:
                        log.events.append(await tool.acall(**arguments))
                    except Exception as exc:
                        log.events.append((type(exc), str(exc)))
        return log.events, variable.get()

    seams.uninstall()
    stock = asyncio.run(program())
    seams.install()
    assert awaited(where, program) == stock
    assert stock[1] == "tool"
    assert "MainThread" in stock[0]


def test_a_pinned_program_is_told_to_mark_its_tools() -> None:
    tool = dspy.Tool(lambda n: n, name="lambda", args={"n": {}}, arg_types={"n": int})

    async def strict() -> Any:
        return await tool.acall(n=1)

    with pytest.raises(ThreadRequiredError, match="loop_safe"):
        asyncio.run(run(strict, engine="loop"))


def test_awaiting_a_sync_tool_without_asyncio() -> None:
    """Another event loop knows nothing of our threads."""
    coroutine = dspy.Tool(lambda text: text.upper(), name="upper", args={"text": {}}).acall(text="a")
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value == "A"


STEPS = [
    {"next_thought": "look", "next_tool_name": "look_up", "next_tool_args": {"n": 1}},
    {"next_thought": "done", "next_tool_name": "finish", "next_tool_args": {}},
    {"reasoning": "so", "answer": "found"},
]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("way", ["forward", "aforward inside", "aforward outside"])
def test_react(kind: str, way: str) -> None:
    """Agents whose tools all have to be under way at once: in a bridged forward, and natively."""
    meeting = Meeting(3)
    here: list[int] = []

    def look_up(n: int) -> str:
        """Look it up."""
        meeting.wait()
        return "sync"

    async def alook_up(n: int) -> str:
        """Look it up."""
        here.append(n)
        while len(here) < 3:
            await asyncio.sleep(0)
        return "async"

    tool = dspy.Tool(alook_up if kind == "async" else look_up, name="look_up")

    class Agent(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.react = dspy.ReAct("question -> answer", tools=[tool], max_iters=3)

        def forward(self, question: str) -> Any:
            return self.react(question=question)

    async_module(Agent)

    async def main() -> list[Any]:
        async def one() -> Any:
            with dspy.context(lm=DummyLM(list(STEPS))):
                agent = Agent()
                if way == "forward":
                    return await agent.acall(question="q")
                if way == "aforward inside":
                    return await run(agent.react.acall, question="q")
                return await agent.react.acall(question="q")

        return await asyncio.wait_for(asyncio.gather(*(one() for _ in range(3))), PATIENCE)

    for prediction in asyncio.run(main()):
        assert prediction.answer == "found"
        assert prediction.trajectory["observation_0"] == kind


def test_an_awaited_agent_shows_the_lm_the_same_traceback() -> None:
    """Of a tool that fails; frames of the way into the thread would change the prompt."""

    def look_up(n: int) -> str:
        """Look it up."""
        raise KeyError(n)

    def trajectory() -> Any:
        with dspy.context(lm=DummyLM(list(STEPS))):
            return asyncio.run(dspy.ReAct("question -> answer", tools=[look_up]).acall(question="q")).trajectory

    seams.uninstall()
    stock = trajectory()
    seams.install()
    assert "KeyError" in stock["observation_0"]
    assert trajectory() == stock


def test_mcp_tools(tmp_path: Path) -> None:
    """Over stdio, from a bridged forward, with several calls of one session under way."""
    mcp = pytest.importorskip("mcp")
    script = tmp_path / "server.py"
    script.write_text(textwrap.dedent(MCP_SERVER))

    async def main() -> Any:
        parameters = mcp.StdioServerParameters(command=sys.executable, args=[str(script)])
        from mcp.client.stdio import stdio_client

        async with stdio_client(parameters) as streams, mcp.ClientSession(*streams) as session:
            await session.initialize()
            listed = await session.list_tools()
            try:
                tools = {tool.name: dspy.Tool.from_mcp_tool(session, tool) for tool in listed.tools}
            except AttributeError as exc:
                pytest.skip(f"this version of DSPy does not know this version of mcp: {exc}")

            def program(n: int) -> Any:
                return tools["add"](a=n, b=1)

            def failing() -> Any:
                return tools["fail"]()

            sums = await asyncio.gather(*(run(program, n, engine="loop") for n in range(5)))
            with pytest.raises(Exception, match=r"on purpose|Failed to call"):
                await run(failing, engine="loop")
            return sums

    assert [str(total) for total in asyncio.run(asyncio.wait_for(main(), PATIENCE))] == ["1", "2", "3", "4", "5"]


MCP_SERVER = """
try:
    from mcp.server.fastmcp import FastMCP
except ImportError:
    from mcp.server import MCPServer as FastMCP

server = FastMCP("test")

@server.tool()
def add(a: int, b: int) -> int:
    "Add."
    return a + b

@server.tool()
def fail() -> int:
    "Fail."
    raise ValueError("on purpose")

server.run()
"""
