"""Settings for everybody, changed from a node."""

import dspy
from langgraph.graph import START, StateGraph


def small(state: dict):
    dspy.configure(lm=dspy.LM("openai/small"))  # flaw: configures


def large(state: dict):
    dspy.settings.configure(lm=dspy.LM("openai/large"))  # flaw: configures


builder = StateGraph(dict).add_node(small).add_node(large).add_edge(START, "small").add_edge("small", "large")
