"""More LM calls at once than any client opens connections: by gather, through a helper."""

import asyncio

import dspy

predict = dspy.Predict("question -> answer")
predict.lm = dspy.LM("openai/any")


async def ask(question):
    return await predict.acall(question=question)  # flaw: connection-cap


async def many(question):
    few = await asyncio.gather(*(predict.acall(question=f"{question} {n}") for n in range(50)))
    answers = await asyncio.gather(*[ask(f"{question} {n}") for n in range(600)])
    return few, answers


target = many
