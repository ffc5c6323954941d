"""An async node that blocks in what it picks at run time."""

import threading

from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

waits = {"long": "wait"}


class State(TypedDict, total=False):
    text: str


async def shorten(state: State):
    wait = getattr(threading.Event(), waits["long"])
    wait(1.0)  # flaw: blocks-loop
    return {"text": state["text"]}


target = StateGraph(State).add_node(shorten).add_edge(START, "shorten")
inputs = {"text": "a"}
