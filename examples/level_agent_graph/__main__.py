"""Shows when each call ran, for three nodes and for a wide fan-out."""

from __future__ import annotations

import os

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import argparse
import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.utils.callback import BaseCallback

from dspy_parallel.testing import LMServer

from ..level_agent import recorded
from ..level_agent.agent import LevelAgent
from .graphs import VARIANTS, many_questions, one_question

WIDTH = 50


class _Calls(BaseCallback):
    """When each LM call began and ended."""

    def __init__(self) -> None:
        self.began: dict[str, float] = {}
        self.spans: list[tuple[float, float]] = []

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.began[call_id] = time.perf_counter()

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.spans.append((self.began.pop(call_id), time.perf_counter()))


@contextmanager
def _timed() -> Iterator[_Calls]:
    calls = _Calls()
    with dspy.context(callbacks=[calls], trace=[]):
        yield calls


def _draw(title: str, calls: _Calls, began: float, ended: float) -> None:
    seconds = ended - began
    print(f"{title:38} {seconds:6.2f} s")
    for start, end in sorted(calls.spans)[:6]:
        left = round((start - began) / seconds * WIDTH)
        width = max(1, round((end - start) / seconds * WIDTH))
        print(f"    {' ' * left}{'#' * width}")


def _run(variant: Any, build: Any, agent: LevelAgent, given: Any, title: str) -> Any:
    graph = variant(build, agent)
    with _timed() as calls:
        began = time.perf_counter()
        result = asyncio.run(graph.ainvoke(given))
        _draw(title, calls, began, time.perf_counter())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=100, help="width of the second graph (default: 100)")
    parser.add_argument("--scale", type=float, default=0.5, help="multiplies the recorded latencies (default: 0.5)")
    options = parser.parse_args()
    recording = recorded.load()
    with LMServer(replies=recording.rules(options.scale)) as server:
        lms = [dspy.LM("openai/any", cache=False, **server.lm_kwargs()) for _ in range(2)]
        agent = LevelAgent(*lms)
        question = recording.questions[0]
        agent.extract(question)  # imports and connections
        print("Three extraction nodes and a merge; each # line is an LM call\n")
        results = [_run(v, one_question, agent, {"question": question}, name) for name, v in VARIANTS.items()]
        assert all(result["query"] == results[0]["query"] for result in results), "the answers differ"
        questions = [recording.questions[n % len(recording.questions)] for n in range(options.questions)]
        print(f"\n{options.questions} questions at once; the first six calls of each are drawn\n")
        for name, variant in VARIANTS.items():
            if "(b)" in name and options.questions > 20:
                print(f"{name:38} one after the other, as above: not run")
                continue
            _run(variant, many_questions, agent, {"questions": questions}, name)
        print(
            "\n(a) overlaps three nodes as well as anything: LangGraph runs sync nodes in threads, CPUs + 4 of them"
            "\n(under ainvoke), and stops there; under invoke, max_concurrency gives it more. (b) blocks the event loop"
            "\nin every call. (c) has no such limit."
        )


if __name__ == "__main__":
    main()
