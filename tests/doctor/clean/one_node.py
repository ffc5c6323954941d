"""A function converted for itself."""

import time

import dspy

from dspy_parallel.langgraph import async_node

predict = dspy.Predict("text -> short")


@async_node
def shorten(state):
    time.sleep(0.01)
    return {"text": predict(text=state["text"]).short}
