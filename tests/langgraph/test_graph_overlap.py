"""A graph with `overlap=True` takes the time of its longest chain of calls, and is otherwise the graph that it was."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import functools
import operator
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import dspy
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.channels import Topic
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.managed import RemainingSteps
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel import explain, pure
from dspy_parallel.errors import TargetError
from dspy_parallel.langgraph import parallelize_graph
from dspy_parallel.langgraph.graph_scout import watcher
from dspy_parallel.overlap.session import PATIENCE, Session
from dspy_parallel.testing import LMServer
from tests.langgraph.comparing import plain
from tests.support.children import run_child
from tests.support.timed_lm import TimedLM
from tests.support.virtual_time import run_virtual

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


def longest(one: str, other: str) -> str:
    return max(one, other)


class State(TypedDict, total=False):
    question: str
    a: str
    b: str
    c: str
    d: str
    log: Annotated[list[str], operator.add]
    longest: Annotated[str, longest]
    messages: Annotated[list[Any], add_messages]


ask = [dspy.Predict("question -> answer") for _ in range(5)]


def a(state: State) -> Any:
    return {"a": ask[0](question=state["question"] + "a").answer, "log": ["a"]}


def a_of(state: State, *, asked: Any) -> Any:
    return {"a": asked(question=state["question"] + "a").answer, "log": ["a"]}


class Asking:
    def __init__(self, ending: str) -> None:
        self.ending = ending

    def __call__(self, state: State) -> Any:
        return {"b": ask[3](question=state["question"] + self.ending).answer}


def b(state: State) -> Any:
    found = ask[1](question=state["question"] + "b").answer
    return {"b": found, "log": ["b"], "longest": found}


def c(state: State) -> Any:
    return {"c": ask[2](question=state["question"] + "c").answer, "log": ["c"]}


def b_twice(state: State) -> Any:
    first = ask[1](question=state["question"]).answer
    return {"b": ask[3](question=first).answer, "log": ["b"]}


def after_a(state: State) -> Any:
    return {"c": ask[2](question=state["a"]).answer, "log": ["c"]}


def d(state: State) -> Any:
    return {"d": ask[4](question=str([state.get("a"), state.get("b"), state.get("c"), state["log"]])).answer}


async def b_async(state: State) -> Any:
    return {"b": (await ask[1].acall(question=state["question"] + "b")).answer, "log": ["b"]}


def by_question(state: State) -> Literal["b", "c"]:
    return "b" if len(state["question"]) > 1 else "c"


by_question.__annotations__ = {"state": State, "return": Literal["b", "c"]}


def by_reply(state: State) -> bool:
    return len(state["a"]) > 0


def three_times(state: State) -> str:
    return "again" if len(state["log"]) < 3 else "enough"


def b_with_config(state: State, config: RunnableConfig) -> Any:
    return {"b": ask[1](question=state["question"] + "b").answer, "log": [str(config.get("run_name"))]}


def opening(state: State) -> Any:
    return {"b": Path().resolve().anchor}


def b_or_nothing(state: State) -> Any:
    found = ask[1](question=state["question"]).answer
    for _ in range(2):
        if found:
            found = ask[3](question=found).answer
    if found == "":
        return {"b": "nothing"}
    return {"b": found}


def after_c(state: State) -> Any:
    return {"d": ask[4](question=state["c"]).answer}


class Asked(TypedDict):
    question: str


def asking_by_question(state: Asked) -> Any:
    return {"log": [ask[1](question=state["question"]).answer]}


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


@dataclasses.dataclass
class Record:
    question: str = ""
    a: str = ""
    b: str = ""
    c: str = ""
    log: Annotated[list[str], operator.add] = dataclasses.field(default_factory=list)


class Model(pydantic.BaseModel):
    question: str = ""
    a: str = ""
    b: str = ""
    c: str = ""
    log: Annotated[list[str], operator.add] = []


def record_a(state: Any) -> Any:
    return {"a": ask[0](question=state.question + "a").answer, "log": ["a"]}


def record_b(state: Any) -> Any:
    return {"b": ask[1](question=state.question + "b").answer, "log": ["b"]}


def record_c(state: Any) -> Any:
    return {"c": ask[2](question=state.a + state.b).answer}


def going_on(state: State) -> Command[Literal["b"]]:
    return Command(update={"a": ask[0](question=state["question"] + "a").answer}, goto="b")


def each_letter(state: State) -> Any:
    return [Send("b", {"question": letter}) for letter in state["question"]]


def each_letter_of_a(state: State) -> Any:
    return [Send("b", {"question": letter}) for letter in state["a"]]


def twenty(state: State) -> Any:
    return [Send("many", {"question": f"{number} {state['question']}", "log": []}) for number in range(20)]


def c_of_both(state: State) -> Any:
    return {"log": [ask[2](question=state["a"] + state["b"]).answer]}


def after_all(state: State) -> Any:
    return {"d": ask[4](question=str(state["log"])).answer}


def talking(state: State) -> Any:
    return {"messages": [("ai", ask[3](question=state["question"]).answer)]}


def in_a_row(*nodes: Any, state: Any = State, output: Any = None) -> StateGraph[Any]:
    names = [getattr(node, "__name__", "graph") for node in nodes]
    edges = [*zip([START, *names], names, strict=False)]
    return graph(edges, state, output, **dict(zip(names, nodes, strict=True)))


def graph(edges: list[Any], state: Any = State, output: Any = None, **nodes: Any) -> StateGraph[Any]:
    builder = StateGraph(state, output_schema=output)
    for name, plan in nodes.items():
        node, options = plan if isinstance(plan, tuple) else (plan, {})
        builder.add_node(name, node, **options)
    for start, *rest in edges:
        if callable(rest[0]):
            builder.add_conditional_edges(start, *rest)
        else:
            builder.add_edge(start, *rest)
    return builder


GRAPHS: dict[str, tuple[Callable[[], StateGraph[Any]], float, float]] = {
    "chain": (
        lambda: graph([(START, "a"), ("a", "b"), ("b", "c"), ("c", "d")], a=a, b=b, c=c, d=d),
        4,
        2,
    ),
    "uneven branches": (
        lambda: graph([(START, "a"), (START, "b"), ("a", "after")], a=a, b=b_twice, after=after_a),
        3,
        2,
    ),
    "join": (
        lambda: graph([(START, "a"), (START, "b"), ("b", "c"), (["a", "c"], "d")], a=a, b=b, c=c, d=d),
        3,
        2,
    ),
    "choice by the input": (lambda: graph([(START, "a"), ("a", by_question), ("b", "c")], a=a, b=b, c=c), 3, 1),
    "choice by a reply": (
        lambda: graph([(START, "a"), ("a", by_reply, {True: "b", False: "c"}), ("b", "c")], a=a, b=b, c=c),
        3,
        2,
    ),
    "loop": (
        lambda: graph([(START, "a"), ("a", three_times, {"again": "a", "enough": END})], a=a),
        3,
        1,
    ),
    "nothing to gain": (lambda: graph([(START, "a"), ("a", "after")], a=a, after=after_a), 2, 2),
    "a module": (
        lambda: graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=Module(), c=c),
        3,
        1,
    ),
    "an async node": (lambda: in_a_row(a, b_async, c), 3, 1),
    "a node with a config": (lambda: in_a_row(a, b_with_config, c), 3, 1),
    # Only who needs what such a node returns waits for it; when it has run, the scout goes on from there.
    "a node with effects": (lambda: in_a_row(a, opening, c, d), 3, 2),
    "a node with effects at first": (lambda: in_a_row(opening, a, b, c), 3, 1),
    "a node that returns what the LM decides": (lambda: in_a_row(a, b_or_nothing, c, d), 6, 4),
    "a branch that takes longer than two steps": (
        lambda: graph([(START, "a"), (START, "b"), ("a", "c"), ("c", "d")], a=a, b=b_or_nothing, c=after_a, d=after_c),
        5,
        3,
    ),
    "a schema of its own": (lambda: in_a_row(a, asking_by_question, c), 3, 1),
    "a dataclass": (lambda: in_a_row(record_a, record_b, record_c, state=Record), 3, 2),
    "a model": (lambda: in_a_row(record_a, record_b, record_c, state=Model), 3, 2),
    "a subgraph": (lambda: in_a_row(a, in_a_row(b, c).compile(), d), 4, 2),
    "commands": (lambda: graph([(START, "a"), ("b", "c")], a=going_on, b=b, c=c), 3, 1),
    "a deferred node": (
        lambda: graph(
            [(START, "a"), (START, "b"), ("a", "c"), ("b", "d"), ("c", "d")],
            a=a,
            b=b_twice,
            c=c,
            d=(d, {"defer": True}),
        ),
        4,
        3,
    ),
    "what is sent": (
        lambda: graph([(START, "a"), ("a", each_letter, ["b"]), ("b", "c")], a=a, b=asking_by_question, c=after_all),
        3,
        2,
    ),
    "what is sent by a reply": (
        lambda: graph([(START, "a"), ("a", each_letter_of_a, ["b"]), ("b", "c")], a=a, b=asking_by_question, c=c),
        3,
        2,
    ),
    "subgraphs that are sent to": (
        lambda: graph(
            [(START, twenty, ["many"]), ("many", "c")],
            many=in_a_row(a, b, c_of_both, output=Log).compile(),
            c=after_all,
        ),
        4,
        3,
    ),
    "messages": (lambda: in_a_row(talking, a, b), 3, 1),
    "methods": (lambda: Agent().graph(), 4, 2),
    "partials and objects": (
        lambda: graph(
            [(START, "a"), ("a", "b"), ("b", "c")],
            a=functools.partial(a_of, asked=ask[0]),
            b=Asking("b"),
            c=functools.partial(functools.partial(c)),
        ),
        3,
        1,
    ),
}


class Agent:
    """A graph in the style of many: its nodes are methods of the object that holds what they ask."""

    def __init__(self) -> None:
        self.ask = dspy.Predict("question -> answer")
        self.enough = 1
        self.said: list[str] = []
        self.count = 0

    def a(self, state: State) -> Any:
        return {"a": self._answer(state["question"] + "a"), "log": ["a"]}

    def path(self, state: State) -> str:
        return "b" if len(state["log"]) <= self.enough else END

    async def b(self, state: State) -> Any:
        return {"b": (await self.ask.acall(question=state["question"] + "b")).answer}

    def c(self, state: State) -> Any:
        self.count += 1
        self.said.append(self._answer(state["question"] + "c"))
        return {"c": self.said[-1]}

    def d(self, state: State) -> Any:
        return {"d": self._answer(str([state["a"], state["b"], self.said, self.count]))}

    def _answer(self, question: str) -> str:
        found: str = self.ask(question=question).answer
        return found

    def graph(self) -> StateGraph[Any]:
        edges = [(START, "a"), ("a", self.path), ("b", "c"), ("c", "d")]
        return graph(edges, a=self.a, b=self.b, c=self.c, d=self.d)


class Module(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, state: State) -> Any:
        return {"b": self.ask(question=state["question"]).answer, "log": ["b"]}


@dataclasses.dataclass
class Run:
    """What a graph does, is asked for, and takes.

    Attributes:
        events: What it streamed, those of one step in any order, and how it ended.
        history: The checkpoints, newest first.
        requests: What the LM is asked.
        settled: The same, as far as it was asked before the last step that was left.
        seconds: How long it takes.
    """

    events: list[list[str]]
    history: list[Any]
    requests: Counter[str]
    settled: Counter[str]
    seconds: float


def run(builder: StateGraph[Any], checkpointer: Any = None, **options: Any) -> Run:
    lm = TimedLM()
    compiled = builder.compile(checkpointer=checkpointer or InMemorySaver(), **options)
    config: Any = {"configurable": {"thread_id": "1"}}
    given: Any = {"question": "why?", "log": []}
    steps: list[list[str]] = [[]]
    settled = 0

    async def main() -> Any:
        nonlocal settled
        with dspy.context(lm=lm):
            try:
                async for mode, event in compiled.astream(given, config, stream_mode=["updates", "values"]):
                    if mode == "values" and "__interrupt__" not in event:
                        settled = len(lm.requests)
                        steps.append([plain(event)])
                    else:
                        bisect.insort(steps[-1], plain(event), lo=1 if len(steps) > 1 else 0)
            except Exception as exc:
                steps.append([f"raised {plain(exc)}"])
        return [
            (plain(s.values), s.next, plain({**(s.metadata or {})}), sorted(plain((t.name, t.result)) for t in s.tasks))
            async for s in compiled.aget_state_history(config)
        ]

    history, seconds = run_virtual(main)
    return Run(steps, history, Counter(lm.requests), Counter(lm.requests[:settled]), seconds)


def overlapped(builder: StateGraph[Any]) -> StateGraph[Any]:
    return parallelize_graph(builder, engine="loop", overlap=True)


@pytest.mark.parametrize("name", GRAPHS)
def test_as_long_as_the_longest_chain_of_calls(name: str) -> None:
    build, steps, ideal = GRAPHS[name]
    expected, seen = run(parallelize_graph(build(), engine="loop")), run(overlapped(build()))
    assert (expected.seconds, seen.seconds) == (pytest.approx(steps), pytest.approx(ideal))
    assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)


@pytest.mark.parametrize("when", ["interrupt_before", "interrupt_after"])
def test_nothing_is_asked_beyond_an_interrupt(when: str) -> None:
    build = GRAPHS["chain"][0]
    options = {when: ["c"] if when == "interrupt_before" else ["b"]}
    assert run(overlapped(build()), **options).requests.total() == 2


def test_a_resumed_run_is_followed_from_the_tasks_of_its_checkpoint() -> None:
    compiled = overlapped(GRAPHS["chain"][0]()).compile(checkpointer=InMemorySaver(), interrupt_before=["b"])
    config: Any = {"configurable": {"thread_id": "1"}}
    lm = TimedLM()

    async def main() -> Any:
        with dspy.context(lm=lm):
            await compiled.ainvoke({"question": "why?", "log": []}, config)
            begun = asyncio.get_running_loop().time()
            state = await compiled.ainvoke(None, config)
            return state["log"], asyncio.get_running_loop().time() - begun

    (log, seconds), _ = run_virtual(main)
    assert (log, seconds) == (["a", "b", "c"], pytest.approx(2))
    assert len(lm.requests) == 4


class Unhurried(InMemorySaver):
    """Takes what it saves as it is after a while, as a saver does that works in a thread or over a network."""

    async def aput(self, *args: Any, **kwargs: Any) -> Any:
        for _ in range(500):
            await asyncio.sleep(0)
        return self.put(*args, **kwargs)

    async def aput_writes(self, *args: Any, **kwargs: Any) -> Any:
        for _ in range(1_000):
            await asyncio.sleep(0)
        return self.put_writes(*args, **kwargs)

    def saved(self) -> list[str]:
        """All that it has, also of subgraphs."""
        return sorted(
            plain(
                (
                    found.config["configurable"]["checkpoint_ns"],
                    found.metadata,
                    sorted(found.checkpoint["channel_values"].items()),
                    sorted(plain((channel, value)) for _, channel, value in found.pending_writes or ()),
                )
            )
            for found in self.list(None)
        )


def joined() -> StateGraph[Any]:
    return graph([(START, "a"), ("a", "b"), (["a", "b"], "c")], a=a, b=b, c=c)


def listed(state: State) -> Any:
    return {"c": [ask[0](question=state["question"]).answer]}


def extended(state: State) -> Any:
    found: Any = state["c"]
    found.append(ask[1](question=state["question"] + "b").answer)
    return {"d": found[-1]}


@pytest.mark.parametrize(
    "build",
    [
        joined,
        lambda: in_a_row(joined().compile(), d),
        lambda: in_a_row(in_a_row(a, joined().compile()).compile(), d),
        lambda: in_a_row(listed, extended),
    ],
    ids=["a join", "in a subgraph", "in one of a subgraph", "a list that a node changes"],
)
def test_what_is_saved_holds_nothing_of_the_step_behind_it(build: Callable[[], StateGraph[Any]]) -> None:
    """Though the step is over at once. What a join has seen is a set that LangGraph adds to."""
    savers = Unhurried(), Unhurried()
    expected = run(parallelize_graph(build(), engine="loop"), savers[0])
    seen = run(overlapped(build()), savers[1])
    assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)
    assert savers[1].saved() == savers[0].saved()
    assert seen.seconds < expected.seconds


def raising(state: State) -> Any:
    raise ValueError(ask[3](question=state["question"]).answer)


def all_of(state: State) -> Any:
    return {"d": ask[4](question=str({key: value for key, value in state.items() if key != "d"})).answer}


@dataclasses.dataclass
class Described(Record):
    @property
    def description(self) -> str:
        return f"{self.a} {self.b}"


class DescribedModel(Model):
    def description(self) -> str:
        return f"{self.a} {self.b}"


def described(state: Any) -> Any:
    return {"c": ask[2](question=str(state.description)).answer}


def described_model(state: Any) -> Any:
    return {"c": ask[2](question=state.description()).answer, "log": [str(len(state.model_dump()))]}


class Steps(TypedDict):
    question: str
    log: Annotated[list[str], operator.add]
    left: RemainingSteps
    topic: Annotated[list[str], Topic(str)]


def left_over(state: Steps) -> Any:
    return {"log": [ask[0](question=f"{state['question']} {state.get('left', 25)}").answer], "topic": ["t"]}


def on_topic(state: Steps) -> Any:
    return {"log": [ask[1](question=f"{state['question']} {state.get('topic')}").answer]}


def off_topic(state: Any) -> Any:
    return {"log": [ask[2](question=state["question"]).answer]}


class Topics(TypedDict):
    question: str
    log: Annotated[list[str], Topic(str)]


def on_log(state: State) -> Any:
    return {"d": ask[1](question=str(state["log"])).answer}


def leaving(state: State) -> Any:
    return Command(graph=Command.PARENT, goto="d", update={"a": ask[0](question=state["question"]).answer})


def blind(state: State) -> Any:
    return {"b": ask[1](question="b").answer}


def growing(before: list[str], update: list[str]) -> list[str]:
    before.extend(update)
    return before


class Grown(TypedDict):
    question: str
    log: Annotated[list[str], growing]


def grown(state: Grown) -> Any:
    return {"log": [ask[0](question=state["question"] + str(state["log"])).answer]}


def twice_grown() -> StateGraph[Any]:
    inner = in_a_row(grown, c_of_all, state=Grown).compile()
    return graph([(START, "one"), ("one", "two"), ("two", "d")], one=inner, two=inner, d=d)


def c_of_all(state: Grown) -> Any:
    return {"log": [ask[1](question=str(state["log"])).answer]}


def to_each(state: State) -> Any:
    return [Send("each", {"question": letter}) for letter in "xy"]


def sent_before_the_end() -> StateGraph[Any]:
    """What is sent does not keep LangGraph from the deferred node, whose update goes first in the order of a step."""
    edges = [(START, "b"), (START, "a"), ("b", to_each, ["each"]), ("a", "d"), ("each", "d")]
    return graph(edges, a=a, b=b, each=asking_by_question, d=(d_log, {"defer": True}))


def d_log(state: State) -> Any:
    return {"log": [ask[4](question=str(state["log"])).answer]}


@pytest.mark.parametrize(
    "build",
    [
        lambda: in_a_row(a, raising),
        lambda: in_a_row(a, b, all_of),
        lambda: in_a_row(record_a, record_b, described, state=Described),
        lambda: in_a_row(record_a, record_b, described_model, state=DescribedModel),
        lambda: in_a_row(left_over, off_topic, state=Steps),
        lambda: in_a_row(left_over, on_topic, off_topic, state=Steps),
        lambda: in_a_row(in_a_row(off_topic, state=Topics).compile(), on_log),
        lambda: graph([(START, "graph")], graph=in_a_row(leaving, blind).compile(), d=d),
        twice_grown,
        sent_before_the_end,
    ],
    ids=[
        "a node that only raises",
        "all items",
        "a property",
        "methods",
        "steps that remain",
        "a topic",
        "a topic of a subgraph",
        "a command to the parent",
        "a reducer that works in place",
        "a deferred node beside what is sent",
    ],
)
def test_nothing_is_asked_that_the_graph_does_not_ask(build: Callable[[], StateGraph[Any]]) -> None:
    for _ in range(2):
        expected, seen = run(parallelize_graph(build(), engine="loop")), run(overlapped(build()))
        assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)


def test_a_subgraph_that_is_resumed_goes_on_where_it_was() -> None:
    def asking(state: State) -> Any:
        return {"b": interrupt("?")}

    def asked(convert: Callable[[StateGraph[Any]], Any]) -> tuple[Any, Counter[str]]:
        compiled = convert(in_a_row(a, in_a_row(b, asking, c).compile(), d)).compile(checkpointer=InMemorySaver())
        lm, config = TimedLM(), {"configurable": {"thread_id": "1"}}

        async def main() -> Any:
            with dspy.context(lm=lm):
                await compiled.ainvoke({"question": "why?", "log": []}, config)
                lm.requests.clear()
                return plain(await compiled.ainvoke(Command(resume="yes"), config))

        return run_virtual(main)[0], Counter(lm.requests)

    assert asked(overlapped) == asked(lambda builder: parallelize_graph(builder, engine="loop"))


def killing(state: State) -> Any:
    if "KILLED" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)


_KILLED = """
import os, sys, dspy
from langgraph.checkpoint.sqlite import SqliteSaver
from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.test_graph_overlap import a, b, c, d, in_a_row, killing

{kill}
with SqliteSaver.from_conn_string({path!r}) as saver, dspy.context(lm=dspy.LM("openai/any", cache=False, **{lm!r})):
    graph = parallelize_graph(in_a_row(a, b, killing, c, d), overlap=True).compile(checkpointer=saver)
    config = {{"configurable": {{"thread_id": "1"}}}}
    state = graph.invoke({given}, config, durability="sync")
    print(*state["log"])
"""


def test_a_run_that_is_killed_between_two_steps_goes_on(tmp_path: Path) -> None:
    """No node that was done runs again; at most the calls are repeated that were made early."""
    pytest.importorskip("langgraph.checkpoint.sqlite", exc_type=ImportError)
    with LMServer(latency=0.2, log_bodies=True) as server:
        fixed = {"path": str(tmp_path / "checkpoints"), "lm": server.lm_kwargs()}
        given = {"question": "why?", "log": []}
        killed = run_child(_KILLED.format(kill="os.environ['KILLED'] = ''", given=given, **fixed), check=False)
        assert killed.code == -signal.SIGKILL
        went_on = run_child(_KILLED.format(kill="", given=None, **fixed))
        asked = Counter(
            next(each for each in "abc" if f"why?{each}" in str(logged.body) or each == "c") for logged in server.log()
        )
    assert went_on.out.split() == ["a", "b", "c"]
    assert (asked["a"], asked["b"]) == (1, 1)
    assert asked["c"] <= 4  # with those of `d`, which needs all; both were made early


def test_invoke_is_followed_as_well() -> None:
    """Three nodes in a row whose calls must all be in flight before any is answered."""
    everybody = asyncio.Event()

    @pure
    class Gated(TimedLM):
        async def aforward(self, *args: Any, **kwargs: Any) -> Any:
            response = self.forward(*args, **kwargs)
            if len(self.requests) == 3:
                everybody.set()
            await asyncio.wait_for(everybody.wait(), 60)
            return response

    builder = graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=b, c=c)
    lm = Gated()
    with dspy.context(lm=lm):
        state = parallelize_graph(builder, overlap=True).compile().invoke({"question": "why?", "log": []})
    assert state["log"] == ["a", "b", "c"]
    assert len(lm.requests) == 3


def test_the_scout_goes_first() -> None:
    """Who takes a reply, or begins a node, waits as long as the scout comes on at least every few turns of the loop."""

    async def main() -> tuple[int, bool]:
        session = Session(asyncio.get_running_loop())
        await session.let_scout_go_first()
        session.moves += 1
        waiting = asyncio.create_task(session.let_scout_go_first())
        for _ in range(5):
            for _ in range(PATIENCE - 1):
                await asyncio.sleep(0)
            session.moves += 1
        was_waiting = not waiting.done()
        await waiting
        return session.moves, was_waiting

    assert asyncio.run(main()) == (6, True)


def test_explain_tells_which_calls_of_a_graph_were_early_and_what_stopped_it() -> None:
    compiled = parallelize_graph(in_a_row(a, opening, b, d), overlap=True).compile()
    with dspy.context(lm=TimedLM(latency=lambda _: 0.0)):
        report = explain(compiled, {"question": "why?", "c": "", "log": []})
        with pytest.raises(TargetError, match="overlap=True"):
            explain(in_a_row(a).compile(), {"question": "why?", "log": []})
    assert [call.is_early for call in report.calls] == [True, True, True]
    assert all("test_graph_overlap.py" in call.place for call in report.calls)
    assert report.critical_path[-1] == 3
    assert any("Path.resolve" in reason for _, reason in report.reasons)


def counted(state: State) -> Any:
    return {"log": [str(len(state["log"]))]}


async def counted_later(state: State) -> Any:
    return {"log": [str(len(state["log"]))]}


def is_counted(state: State) -> str:
    return END if state["log"] else "counted"


@pytest.mark.parametrize(
    ("build", "is_followed"),
    [
        (lambda: in_a_row(counted, counted_later), False),
        (lambda: in_a_row(counted, in_a_row(counted_later).compile()), False),
        (lambda: in_a_row(counted).add_conditional_edges("counted", is_counted), False),
        (lambda: in_a_row(counted, in_a_row(a).compile()), True),
        (lambda: in_a_row(counted, b_async), True),
        (lambda: graph([(START, "counted"), ("counted", "b")], counted=counted, b=Module()), True),
    ],
)
def test_only_a_graph_that_may_ask_an_lm_is_followed(build: Callable[[], StateGraph[Any]], is_followed: bool) -> None:
    """One that has nothing to gain pays nothing for it."""
    runs: list[Any] = []
    token = watcher.set(runs.append)
    try:
        run(overlapped(build()))
    finally:
        watcher.reset(token)
    assert bool(runs) is is_followed


@pure
class Noticing(TimedLM):
    """Notes when a request is cancelled."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cancelled: list[float] = []

    async def aforward(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().aforward(*args, **kwargs)
        except asyncio.CancelledError:
            self.cancelled.append(asyncio.get_running_loop().time())
            raise


@pure
class Held(Noticing):
    """Answers the node that interrupts when everybody has asked, and the one beside it when the rest are cancelled."""

    def __init__(self, expected: int) -> None:
        super().__init__(latency=lambda _: 0.0)
        self.expected = expected
        self.have_asked, self.have_gone = asyncio.Event(), asyncio.Event()

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        response = await super().aforward(prompt, messages, **kwargs)
        if len(self.requests) == self.expected:
            self.have_asked.set()
        try:
            await (self.have_asked if "why?\n" in messages[-1]["content"] else self.have_gone).wait()
        except asyncio.CancelledError:
            self.cancelled.append(0.0)
            if len(self.cancelled) == self.expected - 2:
                self.have_gone.set()
            raise
        return response


def asking(state: State) -> Any:
    found = ask[1](question=state["question"]).answer
    if found:
        return {"b": interrupt(found)}
    return {"b": ask[3](question=state["question"] + "b").answer}


def asking_unseen(state: State) -> Any:
    return {"b": interrupt(Path(ask[1](question=state["question"]).answer).resolve().anchor)}


@pytest.mark.parametrize("node", [asking, asking_unseen])
def test_calls_are_cancelled_that_an_interrupt_makes_useless(node: Any) -> None:
    """Those of later steps, as soon as it is there; the other nodes of its step go on with theirs."""

    def interrupted() -> StateGraph[Any]:
        edges = [(START, "b"), (START, "a"), ("a", "c"), ("b", "d"), ("c", "again"), ("again", "last")]
        return graph(edges, b=node, a=a, c=c, d=b, again=a, last=after_a)

    lm = Noticing(latency=lambda asked: 1.0 if "why?\n" in asked.last_user else 3.0)

    async def main() -> float:
        with dspy.context(lm=lm):
            await overlapped(interrupted()).compile(checkpointer=InMemorySaver()).ainvoke(given, config)
        return asyncio.get_running_loop().time()

    given: Any = {"question": "why?", "log": []}
    config: Any = {"configurable": {"thread_id": "1"}}
    _, seconds = run_virtual(main)
    assert seconds == pytest.approx(3)
    assert lm.cancelled == [pytest.approx(1)] * (len(lm.requests) - 2)
    assert lm.cancelled
    held = Held(len(lm.requests))
    with dspy.context(lm=held):
        compiled = parallelize_graph(interrupted(), overlap=True).compile(checkpointer=InMemorySaver())
        report = explain(compiled, given, config)
    assert (report.joined, report.discarded) == (2, report.early - 2)
    assert report.cancelled == report.discarded > 0


def test_calls_are_cancelled_that_a_failing_node_leaves_behind() -> None:
    def fail(state: State) -> Any:
        if ask[1](question=state["question"]).answer:
            raise ValueError(state["log"])

    builder = graph([(START, "a"), (START, "b"), ("a", "c")], a=a, b=fail, c=c)
    compiled = overlapped(builder).compile()
    lm = Noticing(latency=lambda asked: 1.0 if "why?\n" in asked.last_user else 2.0)

    async def main() -> None:
        with dspy.context(lm=lm), pytest.raises(ValueError, match=r"\[\]"):
            await compiled.ainvoke({"question": "why?", "log": []})

    run_virtual(main)
    assert (len(lm.cancelled), len(lm.requests)) == (2, 3)


# Random graphs

KEYS = "abcd"
KINDS = ["sync"] * 6 + ["async", "branching", "effects", "config", "subgraph", "fail", "interrupt", "command"]


@st.composite
def _plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    plans = []
    for number in range(draw(st.integers(2, 6))):
        earlier = st.lists(st.integers(0, number - 1), min_size=1, max_size=2, unique=True) if number else st.just([])
        plans.append(
            {
                "key": draw(st.sampled_from(KEYS)),
                "reads": draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)),
                "kind": draw(st.sampled_from(KINDS)),
                "after": draw(earlier),
                "joins": draw(st.booleans()),
                "defer": draw(st.sampled_from([False] * 9 + [True])),
                "edges": draw(st.sampled_from(["plain", "plain", "choice", "reply", "send"])),
            }
        )
    return plans


def _node(name: str, plan: dict[str, Any]) -> Any:
    predictor = dspy.Predict("question -> answer")
    reads, key = plan["reads"], plan["key"]

    def sync(state: State) -> Any:
        found = [predictor(question=f"{name} {one} {state.get(one)}").answer for one in reads]
        return {"log": [f"{name} {found}"], "longest": found[0], key: found[-1]}

    async def asynchronous(state: State) -> Any:
        found = await predictor.acall(question=f"{name} {state.get(key)}")
        return {"log": [name], key: found.answer}

    def branching(state: State) -> Any:
        found = predictor(question=f"{name} {state.get(key)}").answer
        if found[-1] in "01234567":
            return {"log": [name], "a": predictor(question=found).answer}
        return {"log": [name], "b": found}

    def effects(state: State) -> Any:
        Path().resolve()
        return {"log": [name, predictor(question=f"{name} {state.get(key)}").answer]}

    def config(state: State, config: RunnableConfig) -> Any:
        return {key: predictor(question=f"{name} {state.get(key)}").answer, "log": [str(config.get("run_name"))]}

    def fail(state: State) -> Any:
        if len(state["log"]) > 2:
            raise ValueError(name)
        return sync(state)

    def asking(state: State) -> Any:
        return {"log": [interrupt(name)]}

    def command(state: State) -> Any:
        return Command(update=sync(state))

    if plan["kind"] == "subgraph":
        return graph([(START, "a"), ("a", "b"), ("b", "c")], a=a, b=b, c=sync).compile()
    kinds = [sync, asynchronous, branching, effects, config, fail, asking, command]
    names = ["sync", "async", "branching", "effects", "config", "fail", "interrupt", "command"]
    return dict(zip(names, kinds, strict=True))[plan["kind"]]


def _choice(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return targets[len(str(state["log"])) % len(targets)]

    return path


def _by_reply(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return targets[ord(str(state.get("longest"))[-1:] or "0") % len(targets)]

    return path


def _sends(targets: list[str]) -> Any:
    def path(state: State) -> Any:
        return [Send(target, state) for target in targets]

    return path


def _random_graph(plans: list[dict[str, Any]]) -> StateGraph[Any]:
    builder = StateGraph(State)
    for number, plan in enumerate(plans):
        builder.add_node(f"n{number}", _node(f"n{number}", plan), defer=plan["defer"])
    builder.add_edge(START, "n0")
    for number, plan in enumerate(plans):
        targets = [f"n{other}" for other, after in enumerate(plans) if number in after["after"]]
        paths = {"choice": _choice, "reply": _by_reply, "send": _sends}
        if targets and plan["edges"] != "plain":
            builder.add_conditional_edges(f"n{number}", paths[plan["edges"]](targets), targets)
        by_edges = [f"n{other}" for other in plan["after"] if plans[other]["edges"] == "plain"]
        for start in [by_edges] if plan["joins"] and by_edges else by_edges:
            builder.add_edge(start, f"n{number}")
    return builder


@contextmanager
def _saver(kind: str) -> Iterator[Any]:
    if kind == "memory":
        yield InMemorySaver()
        return
    sqlite = pytest.importorskip("langgraph.checkpoint.sqlite", exc_type=ImportError)
    with sqlite.SqliteSaver.from_conn_string(":memory:") as saver:
        yield saver


@pytest.mark.parametrize("saver", ["memory", "sqlite"])
@settings(deadline=None)
@given(plans=_plans())
def test_random_graphs_are_what_they_were(saver: str, plans: list[dict[str, Any]]) -> None:
    """The same states, checkpoints, events and requests; never slower.

    Where a node fails, its step is a race that ends with the first failure: who of the others is done by then, and
    what they have asked, depends on how long each takes. All steps before are the same then, and nothing is asked
    that the graph would not ask if nobody failed.
    """
    with _saver(saver) as one, _saver(saver) as other:
        expected = run(parallelize_graph(_random_graph(plans), engine="loop"), one)
        seen = run(overlapped(_random_graph(plans)), other)
    if not expected.events[-1][0].startswith("raised"):
        assert (seen.events, seen.history, seen.requests) == (expected.events, expected.history, expected.requests)
        assert seen.seconds <= expected.seconds + 1e-6
        return
    assert seen.events[-1][0].startswith("raised")
    assert seen.events[:-2] == expected.events[:-2]
    assert seen.events[-2][0] == expected.events[-2][0]
    (state, following, metadata, _), *earlier = seen.history
    assert [(state, following, metadata), *earlier] == [expected.history[0][:3], *expected.history[1:]]
    healthy = [{**plan, "kind": "sync" if plan["kind"] == "fail" else plan["kind"]} for plan in plans]
    assert not expected.settled - seen.requests
    unfailing = run(parallelize_graph(_random_graph(healthy), engine="loop"))
    if not unfailing.events[-1][0].startswith("raised"):  # because two nodes write the same key, perhaps
        assert not seen.requests - unfailing.requests
