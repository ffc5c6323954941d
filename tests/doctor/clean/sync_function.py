"""A plain function: nothing wrong with it."""

import dspy

predict = dspy.Predict("question -> answer")


def answer(question):
    return predict(question=question).answer


target = answer
