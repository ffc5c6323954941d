"""Async code that waits for nothing but awaits."""

import asyncio

import dspy
import httpx

predict = dspy.Predict("question -> answer")
lock = asyncio.Lock()


async def answer(question):
    async with lock:
        await asyncio.sleep(0)
    async with httpx.AsyncClient() as client:
        page = await client.get("http://127.0.0.1/")
    text = await asyncio.to_thread(str.upper, page.text)
    return await predict.acall(question=question + text)


target = answer
