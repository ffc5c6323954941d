"""Async nodes, which no thread limits, sent out by a loop: then it is the LM's client that lets so many through.

Those that block the event loop come one after the other.
"""

import operator
from typing import Annotated

import dspy
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str
    found: Annotated[list, operator.add]


predict = dspy.Predict("text -> found")
lm = dspy.LM("openai/any")


async def look(state: State):
    with dspy.context(lm=lm):
        found = await predict.acall(text=state["text"])
    return {"found": [found.found]}


async def stare(state: State):
    return {"found": [predict(text=state["text"], lm=lm).found]}  # flaw: blocks-loop


def fan_out(state: State):
    sends = [Send("stare", {"text": f"{state['text']} {number}"}) for number in range(700)]
    for number in range(600):
        sends.append(Send("look", {"text": f"{state['text']} {number}"}))  # flaw: connection-cap
    return sends


target = StateGraph(State).add_node(look).add_node(stare)
target.add_conditional_edges(START, fan_out, ["look", "stare"])
