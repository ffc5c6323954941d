"""Settings for everybody, changed from a node."""

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


def small(state: State):
    dspy.configure(lm=dspy.LM("openai/small"))  # flaw: configures
    return {"text": dspy.Predict("text -> short")(text=state["text"]).short}


def large(state: State):
    dspy.settings.configure(lm=dspy.LM("openai/large"))  # flaw: configures
    return {"text": dspy.Predict("text -> short")(text=state["text"]).short}


target = StateGraph(State).add_node(small).add_node(large).add_edge(START, "small").add_edge("small", "large")
