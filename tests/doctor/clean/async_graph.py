"""Async nodes as they should be, with a conditional edge and a subgraph."""

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


predict = dspy.Predict("text -> short")


async def shorten(state: State):
    return {"text": (await predict.acall(text=state["text"])).short}


def again(state: State):
    return "shorten" if len(state["text"]) > 100 else "inner"


def trivial(state: State):
    return {"text": state["text"].strip()}


inner = StateGraph(State).add_node(trivial).add_edge(START, "trivial").compile()


async def ask_inner(state: State):
    return await inner.ainvoke(state)


target = StateGraph(State).add_node(shorten).add_node("inner", inner).add_node(ask_inner).add_edge(START, "shorten")
target.add_conditional_edges("shorten", again, ["shorten", "inner"]).add_edge("inner", "ask_inner")
