"""The agent as a LangGraph: its three extractors as nodes in three ways, and one node many times over."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dspy

from ..errors import LangGraphVersionError
from .measure import FIRST_CALL, Run, Stopwatch, Waiting, level_agent

__all__ = ["GraphRuns", "load_graphs", "run_graphs", "seconds_of", "threads_of_langgraph"]


@dataclass
class GraphRuns:
    """What each way of writing the nodes took.

    Attributes:
        three: Three extraction nodes and a merge, by the way they are written.
        wide: One extraction node for many questions; empty if it was not run.
    """

    three: dict[str, Run]
    wide: dict[str, Run]

    @property
    def same(self) -> bool:
        """Whether all ways gave the same."""
        return all(
            run.extraction == next(iter(runs.values())).extraction
            for runs in (self.three, self.wide)
            for run in runs.values()
        )


def threads_of_langgraph() -> int:
    """How many sync nodes run at once in a stock graph under `ainvoke`: the size of asyncio's default executor."""
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return min(32, (count or 1) + 4)


def seconds_of(latencies: dict[str, float]) -> float:
    """About how long the graphs take, given those of the extractors."""
    return sum(latencies.values()) + 2 * max(latencies.values()) + 3 * latencies["time"]


def load_graphs() -> Any:
    """The module of the example that has the graphs; or a sentence that says why there is none."""
    try:
        return importlib.import_module("dspy_parallel.demo.level_agent_graph.graphs")
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("langgraph"):
            raise
        return "LangGraph is not installed (pip install 'dspy-parallel[langgraph]'): its graph is left out."
    except LangGraphVersionError as error:
        return f"The graph is left out. {error}"


def run_graphs(
    graphs: Any, questions: Sequence[Any], lms: Sequence[Any], waiting: Waiting, *, wide: bool = True
) -> GraphRuns:
    """Answer the first question with each graph, and twice as many as LangGraph has threads with the wide ones.

    Blocks the calling thread, which must have no running event loop. Runs on one loop, whose connections are opened
    before the clock starts.

    Args:
        graphs: From `load_graphs()`.
        questions: Of the level agent.
        lms: The LM of the time extractor, and that of the two others.
        waiting: Gives the context to wait in, from what is being waited for.
        wide: Whether the wide graphs are run.

    Raises:
        Exception: Whatever the LMs raise.
    """
    agent = level_agent("agent").LevelAgent(*lms)
    stopwatch = Stopwatch(agent.extractors)
    sync, blocking, parallel_sync, parallel = graphs.VARIANTS
    many = [questions[number % len(questions)] for number in range(2 * threads_of_langgraph())]

    async def run(name: str, build: Any, given: Any, output: str) -> Run:
        graph = graphs.VARIANTS[name](build, agent)
        with waiting(f"graph, {name}"), dspy.context(callbacks=[stopwatch]):
            stopwatch.start()
            result = await graph.ainvoke(given)
            return stopwatch.run(result[output])

    async def run_all() -> GraphRuns:
        with waiting("first calls of the graphs' loop and threads (not measured)"):
            for lm in lms:
                await lm.acall(FIRST_CALL)
            await asyncio.gather(*(asyncio.to_thread(lm, FIRST_CALL) for lm in (*lms, *lms)))
        one = {"question": questions[0]}
        return GraphRuns(
            {name: await run(name, graphs.one_question, one, "query") for name in (sync, blocking, parallel)},
            {
                name: await run(name, graphs.many_questions, {"questions": many}, "found")
                for name in ((sync, parallel_sync) if wide else ())
            },
        )

    return asyncio.run(run_all())
