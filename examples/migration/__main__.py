"""Both versions of one program, side by side: time, LM requests, result, lines of code.

python -m examples.migration
"""

from __future__ import annotations

import asyncio
import inspect
import time

import dspy

from dspy_parallel.testing import LMServer

from . import after, before

LATENCY = 0.3


async def main() -> None:
    with LMServer(latency=LATENCY) as server:
        lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
        with dspy.context(lm=lm):
            await lm.acall("first uses are not measured")
            results = []
            for name, module in (("before", before), ("after", after)):
                program = module.Article()
                await program.acall(topic="warm up")
                server.reset_stats()
                started = time.perf_counter()
                results.append((await program.acall(topic="bridges")).toDict())
                seconds, lines = time.perf_counter() - started, len(inspect.getsource(module).splitlines())
                print(f"{name:7} {seconds:5.2f} s, {server.stats().requests} LM requests, {lines} lines of code")
    print("same result" if results[0] == results[1] else "different results")


if __name__ == "__main__":
    asyncio.run(main())
