"""Tasks that are parallelised."""

import dspy
from langgraph.func import entrypoint, task

from dspy_parallel.langgraph import parallelize_graph

predict = dspy.Predict("text -> short")


@task
def shorten(text: str) -> str:
    return predict(text=text).short


@entrypoint()
def shorten_all(texts: list) -> list:
    return [future.result() for future in [shorten(text) for text in texts]]


shorten_all = parallelize_graph(shorten_all)
