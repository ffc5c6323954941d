"""Thirty sync nodes by Send, one LM call in each."""

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


async def look_async(state: State):
    return look(state)


def fan_out(state: State):
    return [Send("look", {"text": f"{state['text']} {n}"}) for n in range(30)]


def build(node):
    return StateGraph(State).add_node("look", node).add_conditional_edges(START, fan_out, ["look"])


builder = build(look)
async_nodes = build(look_async).compile()
