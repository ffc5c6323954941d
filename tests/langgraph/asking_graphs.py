"""Nodes that ask an LM, graphs of them, and what can be seen of a run, with and without a scout."""

from __future__ import annotations

import bisect
import dataclasses
import operator
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import dspy
import pydantic
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.comparing import plain
from tests.support.timed_lm import TimedLM
from tests.support.virtual_time import run_virtual


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


def asking(state: State) -> Any:
    found = ask[1](question=state["question"]).answer
    if found:
        return {"b": interrupt(found)}
    return {"b": ask[3](question=state["question"] + "b").answer}


def asking_unseen(state: State) -> Any:
    return {"b": interrupt(Path(ask[1](question=state["question"]).answer).resolve().anchor)}
