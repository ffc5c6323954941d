"""Sync nodes, as many as the input asks for: only a run shows that these are more than LangGraph has threads."""

import operator
from typing import Annotated

from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    count: int
    found: Annotated[list, operator.add]


def look(state: State):  # flaw: thread-cap
    return {"found": [state["count"]]}


def fan_out(state: State):
    return [Send("look", {"count": n}) for n in range(state["count"])]


target = StateGraph(State).add_node(look).add_conditional_edges(START, fan_out, ["look"])
inputs = {"count": 60}
