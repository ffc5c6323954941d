"""An async function that runs a loop inside the loop, and one that waits for a thread."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import dspy

predict = dspy.Predict("question -> answer")
threads = ThreadPoolExecutor(4)


async def both(question):
    first = asyncio.run(predict.acall(question=question))  # flaw: nested-loop
    second = threads.submit(predict, question=question).result()  # flaw: blocks-loop
    return first, second


target = both
