"""A node of a parallelised graph that blocks in what it picks at run time: no seam suspends it."""

import threading

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph

waits = {"long": threading.Event().wait}
predict = dspy.Predict("text -> short")


class State(TypedDict, total=False):
    text: str


def shorten(state: State):
    wait = waits.get("long" if state["text"] else "")
    wait(0.5)  # flaw: blocking-call
    return {"text": predict(text=state["text"]).short}


target = parallelize_graph(StateGraph(State).add_node(shorten).add_edge(START, "shorten"))
inputs = {"text": "a"}
