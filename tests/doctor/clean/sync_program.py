"""A script: sync functions are what their callers make of them, and files are theirs to read."""

import dspy

predict = dspy.Predict("question -> answer")


def main(path):
    with open(path) as file:
        return [predict(question=line).answer for line in file]


async def answer(question):
    return await predict.acall(question=question)
