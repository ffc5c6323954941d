"""Nodes of every kind in a parallelised graph: what blocks elsewhere is taken care of here."""

import operator
import sqlite3
import time
from typing import Annotated

import dspy
import requests
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph


class State(TypedDict, total=False):
    text: str
    found: Annotated[list, operator.add]


class Shorten(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> short")

    def forward(self, state):
        return {"text": self.predict(text=state["text"]).short}


predict = dspy.Predict("text -> found")


def look(state: State):
    return {"found": [predict(text=state["text"]).found]}


async def fetch(state: State):
    time.sleep(0.1)
    requests.get("http://127.0.0.1/", timeout=1)
    return {"text": predict(text=state["text"]).found}


def fan_out(state: State):
    return [Send("look", {"text": str(n)}) for n in range(500)]


builder = StateGraph(State).add_node("shorten", Shorten()).add_node(look).add_node(fetch)
builder.add_edge(START, "shorten").add_edge("shorten", "fetch").add_conditional_edges("fetch", fan_out, ["look"])
saver = SqliteSaver(sqlite3.connect(":memory:", check_same_thread=False))
target = parallelize_graph(builder).compile(checkpointer=saver)
