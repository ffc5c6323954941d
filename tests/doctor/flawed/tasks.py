"""A task of LangGraph's that is async, and blocks."""

import dspy
from langgraph.func import entrypoint, task

predict = dspy.Predict("text -> short")


@task
async def shorten(text: str) -> str:
    return predict(text=text).short  # flaw: blocks-loop


@entrypoint()
async def shorten_all(texts: list) -> list:
    return [await shorten(text) for text in texts]
