"""Three sync nodes in a row, of which only the last needs another one's reply."""

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    first: str
    second: str
    third: str


predict = dspy.Predict("text -> short")


def first(state: State):  # flaw: overlap
    return {"first": predict(text=state["text"]).short}


def second(state: State):
    return {"second": predict(text=state["text"] + "2").short}


def third(state: State):
    return {"third": predict(text=state["first"] + state["second"]).short}


target = StateGraph(State).add_node(first).add_node(second).add_node(third)
target.add_edge(START, "first").add_edge("first", "second").add_edge("second", "third")
inputs = {"text": "a"}
