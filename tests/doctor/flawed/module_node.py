"""A module as a node, with an aforward() that LangGraph does not call."""

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


class Shorten(dspy.Module):  # flaw: module-node
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> short")

    def forward(self, state):
        return {"text": self.predict(text=state["text"]).short}

    async def aforward(self, state):
        return {"text": (await self.predict.acall(text=state["text"])).short}


target = StateGraph(State).add_node("shorten", Shorten()).add_edge(START, "shorten")
