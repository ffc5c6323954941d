"""An async function that runs a loop inside the loop, and waits for a pool."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import dspy

predict = dspy.Predict("question -> answer")
threads = ThreadPoolExecutor(4)


async def both(question):
    first = asyncio.run(predict.acall(question=question))  # flaw: nested-loop
    asyncio.get_event_loop().run_until_complete(predict.acall(question=question))  # flaw: nested-loop
    return first, threads.submit(predict, question=question).result()  # flaw: blocks-loop
