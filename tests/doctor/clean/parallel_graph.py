"""A parallelised graph: what blocks elsewhere is taken care of here."""

import sqlite3
import time

import dspy
import requests
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph

from dspy_parallel.langgraph import parallelize_graph

predict = dspy.Predict("text -> found")


def fetch(state: dict):
    time.sleep(0.1)
    requests.get("http://127.0.0.1/", timeout=1)
    return {"text": predict(text=state["text"]).found}


builder = StateGraph(dict).add_node(fetch).add_edge(START, "fetch")
saver = SqliteSaver(sqlite3.connect(":memory:", check_same_thread=False))
graph = parallelize_graph(builder).compile(checkpointer=saver)
