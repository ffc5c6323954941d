"""The situations of the README, stock and with this library: `python -m benchmarks.situations [--save]`.

Seconds, the best of some rounds, of a server that answers after a fixed time. With `--save` they are written to
docs/figures.json, of which a test holds that the README says the same.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import dspy
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from benchmarks import table
from dspy_parallel import async_module, parallelize_graph
from dspy_parallel.testing import LMServer

__all__ = ["FIGURES", "measure"]

FIGURES = Path(__file__).parents[1] / "docs" / "figures.json"


class State(TypedDict, total=False):
    text: str


class Ask(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.answer(question=question)


def builder_of(count: int, *, is_async: bool) -> StateGraph[State]:
    """Nodes side by side, each of which makes one sync call."""
    builder, ask = StateGraph(State), Ask()
    for number in range(count):

        def node(state: State, number: int = number) -> dict[str, str]:
            ask(question=f"{state['text']} {number}?")
            return {}

        async def async_node(state: State, number: int = number) -> dict[str, str]:
            return node(state, number)

        builder.add_node(f"n{number}", async_node if is_async else node).add_edge(START, f"n{number}")
    return builder


async def seconds_of(run: Callable[[], Awaitable[Any]], rounds: int) -> float:
    """The best round's; imports and first connections are another one's."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        await run()
        best = min(best, time.perf_counter() - began)
    return best


async def measure(server: LMServer, scale: float = 1.0, rounds: int = 3) -> dict[str, list[float]]:
    """Seconds in stock and with this library, by situation."""
    found: dict[str, list[float]] = {}
    async_counts, sync_counts = ((3, 100), (12, 100)) if scale == 1 else ((3,), (12,))
    Ask()(question="first")
    # All that is stock first: nothing of this library is in place then.
    for ours in (False, True):
        for is_async, latency, counts in ((True, 0.3, async_counts), (False, 1.0, sync_counts)):
            server.configure(latency=latency * scale)
            for count in counts:
                builder = builder_of(count, is_async=is_async)
                graph = (parallelize_graph(builder) if ours else builder).compile()
                once = 1 if count == 100 and not ours else rounds
                seconds = await seconds_of(lambda graph=graph: graph.ainvoke({"text": "why"}), once)
                found.setdefault(f"{count} {'async' if is_async else 'sync'} nodes", []).append(seconds)
        server.configure(latency=0.2 * scale)
        ask = async_module(Ask)().acall if ours else dspy.asyncify(Ask())
        count = 400 if scale == 1 else 20

        async def all_at_once(ask: Any = ask, count: int = count) -> None:
            await asyncio.gather(*(ask(question=f"{number}?") for number in range(count)))

        seconds = await seconds_of(all_at_once, rounds if ours else 1)
        found.setdefault("dspy.asyncify", []).append(seconds)
    return found


def demo() -> list[float]:
    """The demo's agent, as one function."""
    command = [sys.executable, "-m", "dspy_parallel", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    both = json.loads(done.stdout)["one function"]
    return [both[way]["seconds"] for way in ("before", "after")]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.situations")
    parser.add_argument("--save", action="store_true", help=f"write {FIGURES.name}")
    save = parser.parse_args().save
    with LMServer() as server:
        dspy.configure(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs()))
        found = asyncio.run(measure(server)) | {"demo": demo()}
    shown = {name: [f"{seconds:.2g} s" for seconds in both] for name, both in found.items()}
    table.show("Stock, and with this library", ("", "stock", "ours"), [(name, *both) for name, both in shown.items()])
    if save:
        FIGURES.write_text(json.dumps(shown, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
