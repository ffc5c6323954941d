"""A parallelised graph whose config lets four of ten nodes run at a time."""

import dspy
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph


class State(TypedDict, total=False):
    text: str


predict = dspy.Predict("text -> found")


def look(state: State):
    predict(text=state["text"])
    return {}


def fan_out(state: State):
    return [Send("look", {"text": str(n)}) for n in range(10)]  # flaw: max-concurrency


builder = StateGraph(State).add_node(look).add_conditional_edges(START, fan_out, ["look"])
target = parallelize_graph(builder).compile().with_config(max_concurrency=4)
