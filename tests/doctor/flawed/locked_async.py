"""A thread's lock around an await: the second task to come stops the loop."""

import threading

import dspy

lock = threading.Lock()
predict = dspy.Predict("question -> answer")


async def answer(question):
    with lock:  # flaw: lock-across-call
        first = await predict.acall(question=question)
    lock.acquire()  # flaw: lock-across-call
    second = await predict.acall(question=first.answer)
    lock.release()
    return await predict.acall(question=second.answer)


target = answer
