"""The three extraction nodes of the checklist, made async and no more: each call blocks the event loop."""

import time

import dspy
import requests
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    time: str
    other: str
    vector: str


extract = dspy.ChainOfThought("text -> found")


class Extractor(dspy.Module):
    def __init__(self):
        super().__init__()
        self.extractor = dspy.ChainOfThought("text -> found")

    def forward(self, text):
        return self.extractor(text=text)


async def time_node(state: State):
    return {"time": extract(text=state["text"]).found}  # flaw: blocks-loop


async def other_node(state: State):
    extractor = Extractor()
    time.sleep(0.1)  # flaw: blocks-loop
    return {"other": extractor(text=state["text"]).found}  # flaw: blocks-loop


async def vector_node(state: State):
    found = requests.get("http://127.0.0.1/vectors", params={"q": state["text"]}, timeout=5)  # flaw: blocks-loop
    return {"vector": rerank(found.text)}


def rerank(text):
    with dspy.context(track_usage=False):
        return extract(text=text).found  # flaw: blocks-loop


target = StateGraph(State)
for node in (time_node, other_node, vector_node):
    target.add_node(node)
    target.add_edge(START, node.__name__)
