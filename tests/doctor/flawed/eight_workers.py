"""Threads, by another name: asyncify, to_thread, run_in_executor."""

import asyncio

import dspy

predict = dspy.Predict("question -> answer")


def ask(question):
    return predict(question=question).answer


async def many(questions):
    program = dspy.asyncify(predict)  # flaw: asyncify-cap
    first = await asyncio.gather(*[program(question=question) for question in questions])
    second = await asyncio.gather(*[asyncio.to_thread(ask, question) for question in questions])  # flaw: executor-cap
    loop = asyncio.get_running_loop()
    third = await loop.run_in_executor(None, ask, questions[0])  # flaw: executor-cap
    return first, second, third


target = many
