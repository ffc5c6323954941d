"""The nodes of the checklist, made async and no more: each call blocks the event loop."""

import time

import dspy
import requests
from langgraph.graph import START, StateGraph

extract = dspy.ChainOfThought("text -> found")


class Extractor(dspy.Module):  # flaw: forward-only
    def forward(self, text):
        return extract(text=text)


async def time_node(state: dict):
    time.sleep(0.1)  # flaw: blocks-loop
    return {"time": extract(text=state["text"]).found}  # flaw: blocks-loop


async def other_node(state: dict):
    extractor = Extractor()
    return {"other": extractor(text=state["text"]).found}  # flaw: blocks-loop


async def vector_node(state: dict):
    found = requests.get("http://127.0.0.1/vectors", timeout=5)  # flaw: blocks-loop
    return {"vector": rerank(found.text)}


def rerank(text):
    with dspy.context(track_usage=False):
        return extract(text=text).found  # flaw: blocks-loop


builder = StateGraph(dict)
for node in (time_node, other_node, vector_node):
    builder.add_node(node).add_edge(START, node.__name__)
