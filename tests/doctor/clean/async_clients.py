"""Async clients, an event loop's methods, tasks that are cancelled, and numbers of the run's own."""

import asyncio
import contextlib

import dspy
import httpx
import numpy
import openai

client, model, numbers = httpx.AsyncClient(), openai.AsyncOpenAI(api_key="none"), numpy.random.default_rng(7)
predict = dspy.Predict("question -> answer")


async def ask(question):
    loop = asyncio.get_running_loop()
    first = loop.create_future()
    loop.call_soon(first.set_result, numbers.random())
    other = loop.create_task(predict.acall(question=question))
    other.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await other
    with contextlib.suppress(ValueError):
        await predict.acall(question=question)
    asked = [model.chat.completions.create(model="any", messages=[]) for _ in range(3)]
    return await first, (await client.get("http://127.0.0.1/")).text, await asyncio.gather(*asked)
