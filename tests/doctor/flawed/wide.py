"""Forty sync nodes side by side, and two hundred more by Send: more than LangGraph has threads."""

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


def look(state: State):  # flaw: thread-cap
    return {"found": [predict(text=state["text"]).found]}


def each(state: State):
    return {"found": [state["text"]]}


def fan_out(state: State):
    return [Send("each", {"text": f"{state['text']} {n}"}) for n in range(200)]  # flaw: thread-cap


target = StateGraph(State).add_node("start", lambda state: {}).add_node(each).add_edge(START, "start")
for number in range(40):
    target.add_node(f"look {number}", look)
    target.add_edge("start", f"look {number}")
target.add_conditional_edges("look 0", fan_out, ["each"])
