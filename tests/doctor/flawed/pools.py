"""Threads, by another name: asyncify, to_thread, run_in_executor; and a pool of processes."""

import asyncio
import functools
import multiprocessing

import dspy

from dspy_parallel import async_module

predict = dspy.Predict("question -> answer")


def ask(question):
    return predict(question=question).answer


async def many(question):
    first = await dspy.asyncify(predict)(question=question)  # flaw: asyncify-cap
    second = await asyncio.to_thread(ask, question)  # flaw: executor-cap
    loop = asyncio.get_running_loop()
    third = await loop.run_in_executor(None, functools.partial(ask, question))  # flaw: executor-cap
    return first, second, third, await loop.run_in_executor(None, lambda: predict(question="?"))  # flaw: executor-cap


@async_module
class Spread(dspy.Module):
    def forward(self, words):
        with multiprocessing.Pool(2) as pool:
            return pool.map(str.upper, words)  # flaw: blocking-call
