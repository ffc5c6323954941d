"""Makes very many calls in one process and prints how memory and the event loop fared; run by `test_soak.py`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time
import warnings
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import dspy  # noqa: E402
from dspy.clients import base_lm  # noqa: E402

from dspy_parallel import async_module  # noqa: E402
from dspy_parallel.testing import LMServer  # noqa: E402
from tests.support.stub_lms import Record  # noqa: E402

BEAT_SECONDS = 0.01
SAMPLES = 100
"""How often memory is looked at."""


class Stub(dspy.BaseLM):
    """Answers at the next turn of the loop."""

    def __init__(self) -> None:
        super().__init__(model="stub/soak", cache=False)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        text = "[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"
        choice = Record(index=0, message=Record(role="assistant", content=text), finish_reason="stop")
        usage = Record(prompt_tokens=1, completion_tokens=1, total_tokens=2)
        return Record(id="1", object="chat.completion", created=0, model="stub", choices=[choice], usage=usage)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return self.forward(prompt, messages, **kwargs)


class Answer(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return self.predict(question=question)


def resident() -> float:
    """Resident memory in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def beat(late: list[tuple[int, float, float]], done: list[int], memory: list[tuple[int, float]]) -> None:
    """Note, a hundred times a second, how late the loop is.

    With the calls made by then, and how long the loop's thread has computed meanwhile: that part of it is ours, the
    rest may be other processes'. A look at memory collects garbage first: that is the soak's doing.
    """
    while True:
        looks, start, computed = len(memory), time.perf_counter(), time.thread_time()
        await asyncio.sleep(BEAT_SECONDS)
        if len(memory) == looks:
            late.append((done[0], time.perf_counter() - start - BEAT_SECONDS, time.thread_time() - computed))


async def soak(program: Any, calls: int, in_flight: int) -> dict[str, Any]:
    numbers, done = count(), [0]
    memory: list[tuple[int, float]] = []
    late: list[tuple[int, float, float]] = []

    async def work() -> None:
        while (number := next(numbers)) < calls:
            assert (await program.acall(question=f"Question {number:07}")).answer
            done[0] += 1
            if done[0] % (calls // SAMPLES) == 0:
                gc.collect()
                memory.append((done[0], resident()))

    heart = asyncio.create_task(beat(late, done, memory))
    start = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    heart.cancel()
    return {"calls": done[0], "seconds": time.perf_counter() - start, "memory": memory, "late": late}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--in-flight", type=int, default=20)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--history", type=int, default=None, help="entries that DSPy keeps; by default as it comes")
    parser.add_argument("--http", action="store_true", help="an LM over HTTP instead of a stub")
    options = parser.parse_args()
    if options.history is not None:
        base_lm.MAX_HISTORY_SIZE = options.history
        dspy.configure(max_history_size=options.history)
    with ExitStack() as stack:
        lm: Any = Stub()
        if options.http:
            server = stack.enter_context(LMServer(log=False))
            lm = dspy.LM("openai/any-model", cache=False, **server.lm_kwargs())
        dspy.configure(lm=lm)
        program = async_module(engine=options.engine)(Answer)()
        print(json.dumps(asyncio.run(soak(program, options.calls, options.in_flight))))


if __name__ == "__main__":
    main()
