"""An agent whose tools are quick or async."""

import asyncio

import dspy


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def weather(city: str) -> str:
    """Tell the weather."""
    await asyncio.sleep(0)
    return f"Rain in {city}."


agent = dspy.ReAct("question -> answer", tools=[add, weather])
