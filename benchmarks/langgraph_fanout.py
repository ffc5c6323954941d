"""LangGraph: wide fan-outs, nodes that block, long loops; stock, written by hand, and parallelised.

Contenders take turns in one process, each in its turn with new node functions, of which nothing has been learned.
Each runs its graph twice: the first run is compared with the first run of the baseline in the same turn, the second
with the second.
"""

from __future__ import annotations

import asyncio
import gc
import operator
import select
import time
import warnings
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Annotated, Any

import dspy
from dspy.clients.base_lm import GLOBAL_HISTORY
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from benchmarks import table
from benchmarks.measure import Ratio, ratio, threads_have_gone
from benchmarks.workload import documents
from dspy_parallel import BlockingWarning
from dspy_parallel.langgraph import parallelize_graph

__all__ = [
    "BLOCKERS",
    "BY_HAND",
    "OURS",
    "STOCK",
    "Run",
    "Turn",
    "against",
    "ainvoking",
    "blocking",
    "fan_out",
    "invoking",
    "measure",
    "show",
    "steps",
]

BY_HAND = "async nodes written by hand, ainvoke"
STOCK = {"invoke": "stock sync nodes, invoke", "ainvoke": "stock sync nodes, ainvoke"}
SERIAL = "stock async nodes that call sync DSPy, ainvoke"
OURS = {
    "ainvoke": "sync nodes, parallelize_graph, ainvoke",
    "invoke": "sync nodes, parallelize_graph, invoke",
    "async": "async nodes that call sync DSPy, parallelize_graph, ainvoke",
}
SERIAL_LIMIT = 20
"""Above this width, nodes that block the event loop are not run: it takes the width times the latency."""

BLOCK_SECONDS = 0.1
STEPS = 1000


class State(TypedDict, total=False):
    texts: list[str]
    found: Annotated[list[str], operator.add]
    n: int


Graph = Any
Run = Callable[[], Awaitable[None]]
"""Runs a contender's graph once."""


@dataclass
class Turn:
    """What one run took: seconds, and seconds of this process' CPU."""

    wall: float
    cpu: float


async def _taken(run: Run) -> Turn:
    await threads_have_gone()
    # What earlier runs have left behind is not this one's burden: the collector looks through all of it.
    for history in (GLOBAL_HISTORY, _predict.history, getattr(dspy.settings.lm, "history", [])):
        history.clear()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await run()
    return Turn(time.perf_counter() - wall, time.process_time() - cpu)


async def measure(
    make: Callable[[], Mapping[str, Run]], rounds: int, once: Collection[str] = ()
) -> dict[str, list[tuple[Turn, Turn]]]:
    """Both runs of each contender, in turn; each round begins with another one.

    Args:
        make: New graphs with new nodes.
        rounds: How many times everybody has their turn.
        once: Who has one in the first round only, because it takes long.
    """
    turns: dict[str, list[tuple[Turn, Turn]]] = {name: [] for name in make()}
    names = list(turns)
    for number in range(rounds):
        runs = make()
        for name in names[number % len(names) :] + names[: number % len(names)]:
            if number == 0 or name not in once:
                turns[name].append((await _taken(runs[name]), await _taken(runs[name])))
    return turns


def against(
    turns: Mapping[str, list[tuple[Turn, Turn]]], name: str, baseline: str, run: int = 1, what: str = "wall"
) -> Ratio:
    """A contender against another one of the same rounds.

    Args:
        turns: From `measure()`.
        name: The contender.
        baseline: The other one.
        run: 0 for first runs, 1 for second ones.
        what: `"wall"` or `"cpu"`.
    """
    own = [getattr(pair[run], what) for pair in turns[name]]
    return ratio(own, [getattr(pair[run], what) for pair in turns[baseline]][: len(own)])


def show(title: str, turns: Mapping[str, list[tuple[Turn, Turn]]], baseline: str) -> None:
    """Print a table."""
    rows = [
        (
            name,
            f"{min(pair[1].wall for pair in turns[name]):.2f} s",
            against(turns, name, baseline, 0),
            against(turns, name, baseline),
            against(turns, name, baseline, what="cpu"),
        )
        for name in turns
    ]
    table.show(f"{title} (× {baseline})", ("", "best", "first run: wall", "second run: wall", "CPU"), rows)


def _unknown(node: Any) -> Any:
    """The same function, with code of its own, by which `engine="auto"` knows it."""
    fresh = FunctionType(node.__code__.replace(), node.__globals__, node.__name__, node.__defaults__, node.__closure__)
    fresh.__annotations__ = node.__annotations__
    return fresh


# Graphs

_predict = dspy.Predict("question -> summary")


def ask(state: Any) -> Any:
    """A sync node."""
    return {"found": [_predict(question=state["text"]).summary]}


async def ask_by_hand(state: Any) -> Any:
    """The same, written for an event loop."""
    return {"found": [(await _predict.acall(question=state["text"])).summary]}


async def ask_blocking(state: Any) -> Any:
    """An async node that blocks the event loop."""
    return {"found": [_predict(question=state["text"]).summary]}


def _each_text(state: State) -> list[Send]:
    return [Send("node", {"text": text}) for text in state["texts"]]


def _fan_out(node: Any) -> StateGraph[Any]:
    return StateGraph(State).add_node("node", _unknown(node)).add_conditional_edges(START, _each_text, ["node"])


def _count(state: State) -> Any:
    return {"n": state["n"] + 1}


def _again(state: State) -> str:
    return "node" if state["n"] < STEPS else "__end__"


def _loop() -> StateGraph[Any]:
    builder = StateGraph(State).add_node("node", _unknown(_count)).add_edge(START, "node")
    return builder.add_conditional_edges("node", _unknown(_again), ["node", "__end__"])


def invoking(graph: Graph, given: Callable[[], Any], config: Any = None) -> Run:
    async def run() -> None:
        await asyncio.to_thread(graph.invoke, given(), config)

    return run


def ainvoking(graph: Graph, given: Callable[[], Any], config: Any = None) -> Run:
    async def run() -> None:
        await graph.ainvoke(given(), config)

    return run


# Measurements


async def fan_out(lm: Any, width: int, rounds: int, stock: bool = True) -> dict[str, list[tuple[Turn, Turn]]]:
    """A `Send` of this width, one LM call in each node, no two alike.

    Args:
        lm: The language model.
        width: How many nodes.
        rounds: See `measure()`; stock nodes that don't come to the width have one.
        stock: Whether stock nodes take part.
    """
    new = documents(f"fan-out-{width}")

    def given() -> Any:
        return {"texts": new(width)}

    def make() -> dict[str, Run]:
        plain = _fan_out(ask).compile()
        ours = parallelize_graph(_fan_out(ask)).compile()
        everybody = {
            BY_HAND: ainvoking(_fan_out(ask_by_hand).compile(), given),
            STOCK["ainvoke"]: ainvoking(plain, given),
            STOCK["invoke"]: invoking(plain, given),
            f"{STOCK['invoke']}, max_concurrency={width}": invoking(plain, given, {"max_concurrency": width}),
            SERIAL: ainvoking(_fan_out(ask_blocking).compile(), given),
            OURS["ainvoke"]: ainvoking(ours, given),
            OURS["invoke"]: invoking(parallelize_graph(_fan_out(ask)).compile(), given),
            OURS["async"]: ainvoking(parallelize_graph(_fan_out(ask_blocking)).compile(), given),
        }
        return {
            name: run
            for name, run in everybody.items()
            if (stock or "stock" not in name) and (name != SERIAL or width <= SERIAL_LIMIT)
        }

    with dspy.context(lm=lm):
        predictor = dspy.Predict("question -> summary")  # imports and clients, not measured
        await asyncio.to_thread(predictor, question=new(1)[0])
        await predictor.acall(question=new(1)[0])
        return await measure(make, rounds, once=(*STOCK.values(), SERIAL))


def _sleeps(state: Any) -> None:
    time.sleep(BLOCK_SECONDS)


def _selects(state: Any) -> None:
    select.select([], [], [], BLOCK_SECONDS)


def _requests(state: Any) -> None:
    import requests

    requests.post(
        state["text"], json={"model": "any", "messages": [{"role": "user", "content": "?"}]}
    ).raise_for_status()


BLOCKERS: dict[str, Callable[[Any], None]] = {"time.sleep": _sleeps, "requests": _requests, "select": _selects}
"""Nodes that block; only this library's seams know the first two."""


async def blocking(blocker: str, url: str, width: int, rounds: int) -> dict[str, list[tuple[Turn, Turn]]]:
    """A `Send` to nodes that block.

    Args:
        blocker: Of `BLOCKERS`.
        url: Where requests go.
        width: How many nodes.
        rounds: See `measure()`.
    """
    node = BLOCKERS[blocker]

    def given() -> Any:
        return {"texts": [f"{url}/chat/completions"] * width}

    def make() -> dict[str, Run]:
        return {
            STOCK["ainvoke"]: ainvoking(_fan_out(node).compile(), given),
            STOCK["invoke"]: invoking(_fan_out(node).compile(), given),
            f"{STOCK['invoke']}, max_concurrency={width}": invoking(
                _fan_out(node).compile(), given, {"max_concurrency": width}
            ),
            OURS["ainvoke"]: ainvoking(parallelize_graph(_fan_out(node)).compile(), given),
            OURS["invoke"]: invoking(parallelize_graph(_fan_out(node)).compile(), given),
        }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BlockingWarning)
        return await measure(make, rounds)


async def steps(rounds: int) -> dict[str, list[tuple[Turn, Turn]]]:
    """1,000 steps of a trivial node and a conditional edge."""
    config = {"recursion_limit": STEPS + 10}

    def given() -> Any:
        return {"n": 0}

    def make() -> dict[str, Run]:
        return {
            STOCK["ainvoke"]: ainvoking(_loop().compile(), given, config),
            STOCK["invoke"]: invoking(_loop().compile(), given, config),
            OURS["ainvoke"]: ainvoking(parallelize_graph(_loop()).compile(), given, config),
            OURS["invoke"]: invoking(parallelize_graph(_loop()).compile(), given, config),
        }

    return await measure(make, rounds)


async def tables(server: Any, lms: Mapping[str, Any], *, quick: bool, progress: Callable[[str], None]) -> None:
    """Measure and print everything.

    Args:
        server: The LM server.
        lms: Language models by name, for the fan-outs.
        quick: Few rounds, and no 1,000-way fan-out.
        progress: Is told what is being measured.
    """
    for name, lm in lms.items():
        for width, rounds in ((20, 2), (200, 1)) if quick else ((20, 5), (200, 5), (1000, 3)):
            progress(f"langgraph, {width}-way, {name}")
            show(f"{width}-way Send, one LM call each, {name}", await fan_out(lm, width, rounds), BY_HAND)
    width = 50 if quick else 100
    for blocker in BLOCKERS:
        progress(f"langgraph, nodes that block: {blocker}")
        turns = await blocking(blocker, server.api_base, width, 1 if quick else 3)
        show(f"{width}-way Send, nodes that block: {blocker}", turns, STOCK["ainvoke"])
    progress("langgraph, steps")
    show(f"{STEPS} steps of a trivial node and a conditional edge", await steps(2 if quick else 7), STOCK["ainvoke"])
