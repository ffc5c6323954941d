"""Three sync nodes side by side: LangGraph overlaps them in threads."""

import time

import dspy
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    a: str
    b: str
    c: str


predict = dspy.Predict("text -> found")


def a(state: State):
    return {"a": predict(text=state["text"]).found}


def b(state: State):
    time.sleep(0.1)
    return {"b": predict(text=state["text"]).found}


def c(state: State):
    return {"c": predict(text=state["text"]).found}


builder = StateGraph(State)
for node in (a, b, c):
    builder.add_node(node)
    builder.add_edge(START, node.__name__)
target = builder.compile(checkpointer=InMemorySaver())
