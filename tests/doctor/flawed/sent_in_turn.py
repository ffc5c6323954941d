"""Sync nodes sent out by other means than a comprehension: a loop that appends, `map()`, a helper, a condition."""

import operator
from typing import Annotated

import dspy
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    found: Annotated[list, operator.add]


predict = dspy.Predict("text -> found")


def look(state: State):
    return {"found": [predict(text=state["text"]).found]}


def appended(state: State):
    sends = []
    for number, letter in enumerate("abc" for _ in range(40)):
        if letter in state["text"]:
            sends.append(Send("look", {"text": str(number)}))  # flaw: thread-cap
    return sends


def mapped(state: State):
    return list(map(lambda n: Send("look", {"text": str(n)}), range(200)))  # flaw: thread-cap


def helped(state: State):
    return [one(n) for n in range(200)]


def one(number):
    return Send("look", {"text": str(number)})  # flaw: thread-cap


def alone(state: State):
    return Send("look", {"text": state["text"]})


target = StateGraph(State).add_node(look)
for path in (appended, mapped, helped, alone):
    target.add_conditional_edges(START, path, ["look"])
