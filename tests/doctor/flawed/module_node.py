"""A module as a node, with an aforward() that LangGraph does not call."""

import dspy
from langgraph.graph import START, StateGraph


class Shorten(dspy.Module):  # flaw: module-node
    async def aforward(self, state):
        return state

    def forward(self, state):
        return state


builder = StateGraph(dict).add_node("shorten", Shorten()).add_edge(START, "shorten")
