"""An async node that blocks in what it picks at run time."""

import threading

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

waits = {"long": threading.Event().wait}
predict = dspy.Predict("text -> short")


class State(TypedDict, total=False):
    text: str


async def shorten(state: State):
    wait = waits.get("long" if state["text"] else "")
    wait(0.5)  # flaw: blocks-loop
    return {"text": (await predict.acall(text=state["text"])).short}


target = StateGraph(State).add_node(shorten).add_edge(START, "shorten")
inputs = {"text": "a"}
