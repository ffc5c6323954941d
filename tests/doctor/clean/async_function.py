"""Async code that waits for nothing but awaits."""

import asyncio

import dspy
import httpx

predict = dspy.Predict("question -> answer")
streamed = dspy.streamify(predict)
lock = asyncio.Lock()


async def answer(question):
    async with lock, httpx.AsyncClient() as client:
        page = await client.get("http://127.0.0.1/")
    kept = []
    kept.append(predict)
    for part in question.parts:
        part.close()
    async for _ in streamed(question=question):
        pass
    text = await asyncio.to_thread(str.upper, page.text)
    return await asyncio.gather(*(predict.acall(question=f"{text} {n}") for n in range(10)))
