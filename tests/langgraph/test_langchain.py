"""What nodes call of LangChain's: chat models, chains, batches, tools, retrievers, tool nodes."""

from __future__ import annotations

import asyncio
import operator
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import pytest
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RouterRunnable, Runnable, RunnableBranch, RunnableLambda, RunnableParallel
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.errors import GraphBubbleUp
from langgraph.graph import START, StateGraph
from langgraph.types import Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel import await_, in_bridge
from dspy_parallel.langgraph import parallelize_graph

ENGINES: Any = pytest.mark.parametrize("engine", ["auto", "loop", "thread"])


class State(TypedDict, total=False):
    log: Annotated[list[Any], operator.add]
    n: int


class Meeting:
    """Lets nobody pass before `wanted` have come; only code that suspends gets that far on one loop."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.come = 0
        self.event = asyncio.Event()

    async def pass_(self) -> None:
        self.come += 1
        if self.come >= self.wanted:
            self.event.set()
        await asyncio.wait_for(self.event.wait(), 60)


class Model(BaseChatModel):
    """A chat model with both sides, of which the sync one must not be used in the bridge."""

    meeting: Any = None

    @property
    def _llm_type(self) -> str:
        return "model"

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise AssertionError("the sync side was called")

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        if self.meeting is not None:
            await self.meeting.pass_()
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="hello"))])

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        raise AssertionError("the sync side was called")

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        for text in ("hel", "lo"):
            await asyncio.sleep(0)
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))


class SyncModel(Model):
    """Only a sync side."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content=threading.current_thread().name))])


def run(node: Any, engine: Any = "auto", width: int = 1) -> list[Any]:
    builder = StateGraph(State).add_node("node", node)
    builder.add_conditional_edges(START, lambda state: [Send("node", {"n": n}) for n in range(width)], ["node"])
    return parallelize_graph(builder, engine=engine).compile().invoke({"n": 0})["log"]


@ENGINES
def test_chat_models_suspend(engine: Any) -> None:
    model = Model(meeting=Meeting(30))
    assert run(lambda state: {"log": [model.invoke("hi").content]}, engine, 30) == ["hello"] * 30


@ENGINES
def test_streams_chains_and_batches(engine: Any) -> None:
    model = Model()
    chain = RunnableLambda(lambda text: text.upper()) | model | RunnableLambda(lambda message: message.content + "!")

    def node(state: State) -> Any:
        return {
            "log": [
                [chunk.content for chunk in model.stream("hi") if chunk.content],
                chain.invoke("hi"),
                [message.content for message in model.batch(["a", "b"])],
                RunnableParallel(a=model, b=chain).invoke("hi")["b"],
                # The strict engine gives no threads to a batch of functions.
                [chain.invoke(text) for text in "ab"] if engine == "loop" else chain.batch(["a", "b"]),
            ]
        }

    assert run(node, engine) == [["hel", "lo"], "hello!", ["hello", "hello"], "hello!", ["hello!", "hello!"]]


def test_batch_runs_at_the_same_time() -> None:
    model = Model(meeting=Meeting(20))
    assert len(run(lambda state: {"log": model.batch(["a"] * 20)}, "loop")) == 20


def test_sync_only_models_run_in_threads() -> None:
    names = run(lambda state: {"log": [SyncModel().invoke("hi").content]}, "thread")
    assert names[0] != "dspy-parallel-loop"


@ENGINES
def test_async_only_tools_and_lambdas_can_be_called(engine: Any) -> None:
    @tool
    async def add(a: int, b: int) -> int:
        """Add."""
        await asyncio.sleep(0)
        return a + b

    async def upper(text: str) -> str:
        await asyncio.sleep(0)
        return text.upper()

    def node(state: State) -> Any:
        return {"log": [add.invoke({"a": 1, "b": 2}), RunnableLambda(upper).invoke("a")]}

    assert run(node, engine) == [3, "A"]


@ENGINES
def test_retrievers_suspend(engine: Any) -> None:
    class Retriever(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            raise AssertionError("the sync side was called")

        async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            await asyncio.sleep(0)
            return [Document(page_content=query)]

    assert run(lambda state: {"log": [Retriever().invoke("q")[0].page_content]}, engine) == ["q"]


# Async sides that only refuse: invoke() must not need them, because stock invoke() doesn't.


class RefusingModel(Model):
    """Its stream is one item, and its only text comes from the sync side."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(content="sync"))])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError(f"{type(self).__name__} has no async side")


class RefusingRetriever(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document(page_content=query)]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        raise NotImplementedError("no async side")


class RefusingTool(BaseTool):
    name: str = "refusing"
    description: str = "Refuses."

    def _run(self, n: int) -> str:
        return str(n)

    async def _arun(self, n: int) -> str:
        msg = f"{self.name} has no async side"
        raise NotImplementedError(msg)


class RefusingRunnable(Runnable[Any, Any]):
    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return {"log": ["sync"]}

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        raise NotImplementedError


def split(chunks: Any) -> Any:
    for chunk in chunks:
        yield {"log": chunk.split()}


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_async_sides_that_refuse(engine: Any) -> None:
    model, retriever, refusing = RefusingModel(), RefusingRetriever(), RefusingTool()
    log = RunnableLambda(lambda message: {"log": [message.content]})

    def node(state: State) -> Any:
        texts = [model.invoke("hi").content, model.batch(["hi"])[0].content, retriever.invoke("q")[0].page_content]
        return {"log": [*texts, refusing.invoke({"n": 1}), *RefusingRunnable().invoke(None)["log"]]}

    assert run(node, engine) == ["sync", "sync", "q", "1", "sync"]
    assert run(RunnableLambda(lambda state: "hi") | model | log, engine) == ["sync"]
    refused = RefusingRunnable()
    for runnable in (
        refused,
        refused.with_config(tags=["x"]),
        RunnableParallel(a=refused) | (lambda found: found["a"]),
        # Whose `__getattr__` evaluates type hints of what is asked for.
        RunnableLambda(lambda state: 1 / 0).with_fallbacks([refused]),
        RunnableBranch((lambda state: True, refused), refused),
        RunnableLambda(lambda state: {"key": "a", "input": state}) | RouterRunnable({"a": refused}),
    ):
        assert run(runnable, engine) == ["sync"]
    splitting = RunnableLambda(lambda s: "a b") | split  # which LangChain cannot await
    for runnable in (splitting, splitting.with_config(run_name="bound")):
        assert run(runnable, engine) == ["a", "b"]
    graph = parallelize_graph(StateGraph(State).add_node("node", splitting).add_edge(START, "node"), engine=engine)
    assert asyncio.run(graph.compile().ainvoke({"n": 0}))["log"] == ["a", "b"]
    result = _tool_node([refusing]).compile().invoke(_calls("refusing"))
    assert result["messages"][-1].content == "0"


class Both(Runnable[Any, Any]):
    """Written twice, as a client of some service would be."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        raise AssertionError("the sync side was called")

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return f"{input} async"

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        raise AssertionError("the sync side was called")

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        for n in range(2):
            await asyncio.sleep(0)
            yield f"{input} {n}"


class Inheriting(Both):
    """Its own method means to be used, also where it uses the inherited one."""

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"{await super().ainvoke(input)} inherited"


class SyncOverride(Both):
    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"{input} sync"


class AsyncCallsSync(Both):
    """The async side is written as a call of the sync side."""

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"{input} sync"

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return f"{self.invoke(input)} called"

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        yield f"{input} streamed"

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        for item in self.stream(input):
            yield item


class BothTool(RefusingTool):
    def _run(self, n: int) -> str:
        raise AssertionError("the sync side was called")

    async def _arun(self, n: int) -> str:
        await asyncio.sleep(0)
        return f"{n} async"


@ENGINES
def test_runnables_and_tools_with_both_sides_suspend(engine: Any) -> None:
    def never(n: int) -> str:
        """Never."""
        raise AssertionError("the sync side was called")

    async def instead(n: int) -> str:
        await asyncio.sleep(0)
        return f"{n} async"

    both = StructuredTool.from_function(never, instead)

    def node(state: State) -> Any:
        runnables = [Both().invoke(1), list(Both().stream(1)), (Both() | RunnableLambda(str.upper)).invoke(1)]
        below = [Inheriting().invoke(1), SyncOverride().invoke(1)]
        tools = [both.invoke({"n": 1}), BothTool().invoke({"n": 1}), RunnableLambda(never, instead).invoke(1)]
        return {"log": [*runnables, *below, *tools]}

    runnables = ["1 async", ["1 0", "1 1"], "1 ASYNC"]
    assert run(node, engine) == [*runnables, "1 async inherited", "1 sync", "1 async", "1 async", "1 async"]


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_async_sides_that_call_the_sync_one(engine: Any) -> None:
    def node(state: State) -> Any:
        return {"log": [AsyncCallsSync().invoke(1), *AsyncCallsSync().stream(1)]}

    assert run(node, engine) == ["1 sync called", "1 streamed"]


class SuperSync(SyncOverride):
    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return {"log": [super().invoke("super", config)]}


@ENGINES
def test_sync_runnable_as_a_node_that_calls_its_base(engine: Any) -> None:
    assert run(SuperSync(), engine) == ["super sync"]


def _tool_node(tools: list[Any], **options: Any) -> Any:
    prebuilt = pytest.importorskip("langgraph.prebuilt", exc_type=ImportError)
    from langgraph.graph import MessagesState

    builder = StateGraph(MessagesState).add_node("tools", prebuilt.ToolNode(tools, **options)).add_edge(START, "tools")
    return parallelize_graph(builder)


def _calls(*names: str) -> Any:
    calls = [{"name": name, "args": {"n": i}, "id": str(i), "type": "tool_call"} for i, name in enumerate(names)]
    return {"messages": [AIMessage(content="", tool_calls=calls)]}


def test_tool_node_runs_sync_tools_bridged() -> None:
    """As many as are called, and their own LM calls reach the loop."""
    meeting = Meeting(20)

    def meet(n: int) -> str:
        """Meet."""
        assert in_bridge()
        await_(meeting.pass_())
        return str(n)

    graph = _tool_node([StructuredTool.from_function(meet)]).compile()
    result = graph.invoke(_calls(*["meet"] * 20))
    assert [message.content for message in result["messages"][1:]] == [str(n) for n in range(20)]


def test_sync_wrapper_of_tool_calls_waits() -> None:
    """It runs in the bridge, so that `execute` suspends instead of blocking the loop."""

    def ask(n: int) -> str:
        """Ask."""
        await_(asyncio.sleep(0))
        return interrupt("tool?")

    seen = []

    def wrap(request: Any, execute: Any) -> Any:
        try:
            return execute(request)
        except GraphBubbleUp as exc:
            seen.append(type(exc).__name__)
            raise

    graph = _tool_node([StructuredTool.from_function(ask)], wrap_tool_call=wrap)
    from langgraph.checkpoint.memory import InMemorySaver

    result = graph.compile(checkpointer=InMemorySaver()).invoke(_calls("ask"), {"configurable": {"thread_id": "1"}})
    assert [i.value for i in result["__interrupt__"]] == ["tool?"]
    assert seen == ["GraphInterrupt"]
