"""Sync nodes side by side: LangGraph overlaps them in threads."""

import time

import dspy
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

predict = dspy.Predict("text -> found")


def one(state: dict):
    return {"one": predict(text=state["text"]).found}


def other(state: dict):
    time.sleep(0.1)
    return {"other": predict(text=state["text"]).found}


builder = StateGraph(dict).add_node(one).add_node(other).add_edge(START, "one").add_edge(START, "other")
graph = builder.compile(checkpointer=InMemorySaver())
