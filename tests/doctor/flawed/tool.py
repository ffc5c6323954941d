"""An agent that is awaited, with a tool that blocks the loop meanwhile."""

import time

import dspy


def weather(city: str) -> str:
    """Tell the weather."""
    time.sleep(0.2)  # flaw: blocking-tool
    return f"Rain in {city}."


agent = dspy.ReAct("question -> answer", tools=[weather])
