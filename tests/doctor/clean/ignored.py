"""Flaws that somebody has seen and wants to have."""

import time

import dspy

predict = dspy.Predict("question -> answer")


async def answer(question):
    time.sleep(0.001)  # dspy-parallel: ignore
    return predict(question=question)  # dspy-parallel: ignore[blocks-loop, nested-loop]
