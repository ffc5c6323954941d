"""A thread's lock around an await: the second task to come stops the loop."""

import threading

import dspy

lock = threading.Lock()
predict = dspy.Predict("question -> answer")


async def answer(question):
    with lock:  # flaw: lock-across-call
        return await predict.acall(question=question)


target = answer
