"""A thread's lock around an await: the second task to come stops the loop."""

import threading

import dspy

lock = threading.Lock()
predict = dspy.Predict("question -> answer")


async def answer(question):
    with lock:  # flaw: lock-across-call
        await predict.acall(question=question)
    lock.acquire()  # flaw: lock-across-call
    await predict.acall(question=question)
    lock.release()
    return await predict.acall(question=question)
