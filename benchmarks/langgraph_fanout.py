"""`python -m benchmarks.langgraph_fanout`: wide fan-outs and long loops of LangGraph, stock and parallelised.

Every contender runs in one process, one after the other, round after round, and is compared with hand-written async
nodes of the same round. Nodes make one `dspy.Predict` call to an LM that is nothing but a timer, so that what is
seen is DSPy, LangGraph and the way nodes are run, and not a connection pool; `--server` uses a real one instead.
"""

# ruff: noqa: E402 - the environment has to be prepared before DSPy is imported

from __future__ import annotations

import argparse
import asyncio
import operator
import select
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from benchmarks import machine

machine.prepare()

import dspy
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from typing_extensions import TypedDict

from benchmarks.measure import ratio
from benchmarks.table import show
from benchmarks.workload import Stub, make_lm, start_server
from dspy_parallel.langgraph import parallelize_graph

LATENCY = 0.2
BASELINE = "async nodes written by hand, ainvoke"
SERIAL_LIMIT = 50
"""Above this width, nodes that block the event loop are not run: it takes the width times the latency."""

SLOW_SECONDS = 5.0
"""What takes longer is run once."""


class State(TypedDict, total=False):
    found: Annotated[list[str], operator.add]
    n: int


_predict = dspy.Predict("question -> summary")


def _sync_node() -> Callable[[State], Any]:
    """A new function, of which nothing has been learned yet."""
    return eval("lambda state: {'found': [predict(question=str(state['n'])).summary]}", {"predict": _predict})


async def _async_node(state: State) -> Any:
    return {"found": [(await _predict.acall(question=str(state["n"]))).summary]}


def _blocking_async_node() -> Callable[[State], Any]:
    async def node(state: State) -> Any:
        return {"found": [_predict(question=str(state["n"])).summary]}

    return node


def _blocking_node() -> Callable[[State], Any]:
    return eval("lambda state: select([], [], [], seconds) and None", {"select": select.select, "seconds": LATENCY})


def _fan_out(node: Any, width: int) -> StateGraph[Any]:
    builder = StateGraph(State).add_node("node", node)
    sends = [Send("node", {"n": n}) for n in range(width)]
    return builder.add_conditional_edges(START, lambda state: sends, ["node"])


def _loop(node: Any) -> StateGraph[Any]:
    builder = StateGraph(State).add_node("node", node).add_edge(START, "node")
    return builder.add_conditional_edges("node", lambda s: "node" if s["n"] < 1000 else "__end__", ["node", "__end__"])


Contender = Callable[[], Awaitable[float]]


def _invoke(graph: Any, given: Any, config: Any = None) -> Contender:
    async def run() -> float:
        began = time.perf_counter()
        await asyncio.to_thread(graph.invoke, given, config)
        return time.perf_counter() - began

    return run


def _ainvoke(graph: Any, given: Any, config: Any = None) -> Contender:
    async def run() -> float:
        began = time.perf_counter()
        await graph.ainvoke(given, config)
        return time.perf_counter() - began

    return run


def _fan_out_contenders(width: int) -> dict[str, Contender]:
    given: Any = {"n": 0}
    stock = _fan_out(_sync_node(), width).compile()
    blocking = _fan_out(_blocking_async_node(), width).compile()
    parallel = parallelize_graph(_fan_out(_sync_node(), width)).compile()
    parallel_async = parallelize_graph(_fan_out(_blocking_async_node(), width)).compile()
    contenders = {
        BASELINE: _ainvoke(_fan_out(_async_node, width).compile(), given),
        "stock sync nodes, invoke": _invoke(stock, given),
        f"stock sync nodes, invoke, max_concurrency={width}": _invoke(stock, given, {"max_concurrency": width}),
        "stock sync nodes, ainvoke": _ainvoke(stock, given),
        "stock async nodes that call sync DSPy, ainvoke": _ainvoke(blocking, given),
        "sync nodes, parallelize_graph, ainvoke": _ainvoke(parallel, given),
        "sync nodes, parallelize_graph, invoke": _invoke(parallel, given),
        "async nodes that call sync DSPy, parallelize_graph, ainvoke": _ainvoke(parallel_async, given),
    }
    if width > SERIAL_LIMIT:
        del contenders["stock async nodes that call sync DSPy, ainvoke"]
    return contenders


async def _rounds(
    contenders: dict[str, Contender], rounds: int, baseline: str
) -> tuple[dict[str, float], dict[str, list[float]]]:
    first = {name: await run() for name, run in contenders.items()}
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            if first[name] < SLOW_SECONDS or name == baseline:
                times[name].append(await run())
    return first, times


def _table(title: str, baseline: str, first: dict[str, float], times: dict[str, list[float]]) -> None:
    rows = [
        [
            name,
            f"{first[name]:.2f} s",
            f"{min(seconds, default=first[name]):.2f} s",
            ratio(seconds, times[baseline]) if seconds else f"{first[name] / first[baseline]:.0f}",
        ]
        for name, seconds in times.items()
    ]
    show(title, ["", "first run", "best", f"against {baseline.partition(',')[0]}"], rows)


async def _fan_outs(widths: list[int], rounds: int) -> None:
    for width in widths:
        first, times = await _rounds(_fan_out_contenders(width), rounds, BASELINE)
        _table(f"{width}-way Send, one LM call of {LATENCY} s each", BASELINE, first, times)


async def _blocking(width: int, rounds: int) -> None:
    stock = _fan_out(_blocking_node(), width).compile()
    parallel = parallelize_graph(_fan_out(_blocking_node(), width)).compile()
    contenders = {
        "stock, ainvoke": _ainvoke(stock, {"n": 0}),
        "stock, invoke": _invoke(stock, {"n": 0}),
        "parallelize_graph, ainvoke": _ainvoke(parallel, {"n": 0}),
        "parallelize_graph, invoke": _invoke(parallel, {"n": 0}),
    }
    first, times = await _rounds(contenders, rounds, "stock, ainvoke")
    _table(f"{width}-way Send, nodes that block for {LATENCY} s", "stock, ainvoke", first, times)


async def _steps(rounds: int) -> None:
    def step(state: State) -> Any:
        return {"n": state["n"] + 1}

    given, config = {"n": 0}, {"recursion_limit": 1010}
    stock, parallel = _loop(step).compile(), parallelize_graph(_loop(step)).compile()
    contenders = {
        "stock, ainvoke": _ainvoke(stock, given, config),
        "stock, invoke": _invoke(stock, given, config),
        "parallelize_graph, ainvoke": _ainvoke(parallel, given, config),
        "parallelize_graph, invoke": _invoke(parallel, given, config),
    }
    first, times = await _rounds(contenders, rounds, "stock, ainvoke")
    _table("1,000 steps of a trivial node and a conditional edge", "stock, ainvoke", first, times)


async def _main(options: argparse.Namespace) -> None:
    if options.server:
        server = start_server(latency=LATENCY)
        lm: Any = make_lm(server, "native")
    else:
        lm = Stub(LATENCY)
    with dspy.context(lm=lm, trace=[], disable_history=True):
        await _fan_outs([20, 200] if options.quick else [20, 200, 1000], 2 if options.quick else 5)
    await _blocking(200, 1 if options.quick else 3)
    await _steps(3 if options.quick else 7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no 1,000-way fan-out")
    parser.add_argument("--server", action="store_true", help="a real HTTP server instead of a timer")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
