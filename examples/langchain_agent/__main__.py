"""LangChain's `create_agent` with DSPy in its tools: many agents at once, as they are and parallelised.

    python -m examples.langchain_agent [--agents N]

It needs `pip install langchain`. No key: a server on 127.0.0.1 plays the LM of the tools, and a chat model that asks
for five tools and then sums up stands in for LangChain's model.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import dspy
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from dspy_parallel import parallelize_graph
from dspy_parallel.testing import LMServer

CITIES = ("Oslo", "Lima", "Kyoto", "Accra", "Perth")


class ChatModel(BaseChatModel):
    """Asks for all cities at once, then sums up: the same for the same messages."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **options: Any) -> ChatModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        found = [message.text for message in messages if isinstance(message, ToolMessage)]
        reply = AIMessage(" ".join(found), id=f"sum of {len(found)}")
        if not found:
            calls = [{"name": "describe", "args": {"city": city}, "id": city} for city in CITIES]
            reply = AIMessage("", tool_calls=calls, id="question")
        return ChatResult(generations=[ChatGeneration(message=reply)])


class Guide(dspy.Module):
    def __init__(self):
        super().__init__()
        self.describe = dspy.ChainOfThought("city, question -> description")

    def forward(self, city, question):
        return self.describe(city=city, question=question)


guide = Guide()


def describe(city: str) -> str:
    """Describe a city."""
    return guide(city=city, question="What is it known for?").description


async def answers(agent: Any, count: int) -> list[list[str]]:
    """What each of the agents says, tool results and all."""

    async def one(number: int) -> list[str]:
        state = await agent.ainvoke({"messages": [("user", f"Trip {number}?")]})
        return [message.text for message in state["messages"]]

    return await asyncio.gather(*(one(number) for number in range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.langchain_agent", description=__doc__)
    parser.add_argument("--agents", type=int, default=20)
    count = parser.parse_args().agents
    agent = create_agent(ChatModel(), [describe])
    said = []
    with LMServer(latency=0.4) as server:
        dspy.configure(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs()))
        describe("Rome")  # imports and first connections
        for title in ("as it is", "parallelize_graph(agent)"):
            each = agent if title == "as it is" else parallelize_graph(agent)
            server.reset_stats()
            began = time.perf_counter()
            said.append(asyncio.run(answers(each, count)))
            seconds, stats = time.perf_counter() - began, server.stats()
            print(f"{title:<26}{seconds:5.2f} s, {stats.requests} LM requests, {stats.peak_in_flight} at once")
    print("same messages" if said[0] == said[1] else "other messages")


if __name__ == "__main__":
    main()
