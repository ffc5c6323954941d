"""With `overlap=True`, a graph asks what it asks without; a failure or an interrupt cancels what it makes useless."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import dspy
import pydantic
import pytest
from langgraph.channels import Topic
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.managed import RemainingSteps
from langgraph.types import Command, Send, interrupt
from typing_extensions import TypedDict

from dspy_parallel import explain, pure
from dspy_parallel.langgraph import parallelize_graph
from tests.langgraph.asking_graphs import (
    Model,
    Record,
    State,
    a,
    after_a,
    ask,
    asking,
    asking_by_question,
    asking_unseen,
    b,
    c,
    d,
    graph,
    in_a_row,
    overlapped,
    record_a,
    record_b,
    run,
)
from tests.langgraph.comparing import plain
from tests.support.timed_lm import TimedLM
from tests.support.virtual_time import run_virtual

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


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


class Converted(pydantic.BaseModel):
    question: str
    a: str = ""
    n: float = 0
    kept: list[str] = []
    log: Annotated[list[str], operator.add] = []


class Frozen(Converted):
    model_config = pydantic.ConfigDict(frozen=True)


class Stripped(Converted):
    question: Annotated[str, pydantic.AfterValidator(lambda text: text[:4])]


CONVERTED: list[Any] = [(START, "one"), ("one", "two"), ("two", "three")]


def converting(state: Any) -> Any:
    return {"a": ask[0](question=state.question).answer, "n": "3", "question": "why? why?", "kept": ("x",)}


def converted(state: Any) -> Any:
    return {"log": [ask[1](question=f"{state.question} {state.n} {state.kept} {state.a}").answer]}


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


def summed_up(before: str, update: str) -> str:
    found: str = ask[1](question=f"{before} {update}").answer if before else update
    return found


class Summed(TypedDict, total=False):
    question: str
    b: Annotated[str, summed_up]


def b_alone(state: Any) -> Any:
    return {"b": ask[0](question=f"{state['question']} {state.get('b')}").answer}


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
        lambda: graph(CONVERTED, state=Converted, one=converting, two=converted, three=converted),
        lambda: graph(CONVERTED, state=Frozen, one=converting, two=converted, three=converted),
        lambda: graph(CONVERTED, state=Stripped, one=converting, two=converted, three=converted),
        lambda: in_a_row(left_over, off_topic, state=Steps),
        lambda: in_a_row(left_over, on_topic, off_topic, state=Steps),
        lambda: in_a_row(in_a_row(off_topic, state=Topics).compile(), on_log),
        lambda: graph([(START, "graph")], graph=in_a_row(leaving, blind).compile(), d=d),
        twice_grown,
        lambda: graph(
            [(START, "one"), ("one", "two"), ("two", "b")], state=Summed, one=b_alone, two=b_alone, b=b_alone
        ),
        sent_before_the_end,
    ],
    ids=[
        "a node that only raises",
        "all items",
        "a property",
        "methods",
        "a model that converts",
        "a frozen model",
        "a validator beside a type",
        "steps that remain",
        "a topic",
        "a topic of a subgraph",
        "a command to the parent",
        "a reducer that works in place",
        "a reducer that asks",
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
