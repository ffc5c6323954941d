"""A sync function that nothing bridges yet: what would keep it in threads."""

import queue

import dspy

predict = dspy.Predict("question -> answer")
waiting = queue.Queue()


def target(question):
    waiting.get()  # flaw: blocking-call
    return predict(question=question).answer
