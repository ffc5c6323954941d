"""Async nodes as they should be, with a conditional edge and a subgraph."""

import dspy
from langgraph.graph import START, StateGraph

predict = dspy.Predict("text -> short")


async def shorten(state: dict):
    return {"text": (await predict.acall(text=state["text"])).short}


def again(state: dict):
    return "shorten" if len(state["text"]) > 100 else "inner"


inner = StateGraph(dict).add_node("trivial", lambda state: state).add_edge(START, "trivial").compile()


async def ask(state: dict):
    return await inner.ainvoke(state)


builder = StateGraph(dict).add_node(shorten).add_node("inner", inner).add_node(ask).add_edge(START, "shorten")
builder.add_conditional_edges("shorten", again, ["shorten", "inner"]).add_edge("inner", "ask")
