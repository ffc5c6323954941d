"""Many calls at once, none of which runs into a pool: a semaphore lets few through, waves wait for each other."""

import asyncio

import dspy

predict = dspy.Predict("question -> answer")
predict.lm = dspy.LM("openai/any")


async def many(questions):
    turns = asyncio.Semaphore(10)

    async def ask(question):
        async with turns:
            return await predict.acall(question=question)

    limited = await asyncio.gather(*(ask(n) for n in range(10_000)))
    one_by_one = [await predict.acall(question=n) for n in range(10_000)]
    for n in range(10_000):
        one_by_one.append(await asyncio.create_task(predict.acall(question=n)))
    return limited, one_by_one


target = many
