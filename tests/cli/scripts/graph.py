from typing import TypedDict

from langgraph.graph import START, StateGraph
from lm import Summaries


class State(TypedDict, total=False):
    a: str
    b: str


def node(name):
    return lambda state: {name: Summaries()(text=name).answer}


graph = StateGraph(State).add_node("one", node("a")).add_node("two", node("b"))
print(graph.add_edge(START, "one").add_edge(START, "two").compile().invoke({}))
