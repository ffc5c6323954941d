"""Programs in programs in programs, at many times the size of every pool, under a limit of a few: no deadlock."""

from __future__ import annotations

import pytest

from tests.support.children import PRELOADED, Ended, run_child

pytestmark = pytest.mark.once  # a minute or more, of computing alone

PRELUDE = """
import asyncio, threading, warnings
warnings.simplefilter("ignore")
from concurrent.futures import ThreadPoolExecutor
import anyio.to_thread
import dspy
from dspy_parallel import async_module, install, limit, run
from dspy_parallel.testing import LMServer

THREADS, COUNT = 8, 24  # of anyio's limiter and of asyncio's default executor, which DSPy uses inside LM calls

class Ask(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
    def forward(self, question):
        return self.predict(question=question)

def nest(engine, inner):
    class Nested(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict, self.inner = dspy.Predict("question -> answer"), inner()
        def forward(self, question):
            first = self.predict(question=question).answer
            return self.inner(question=f"{question} {first}")
    return async_module(Nested, engine=engine)

def main(program, server, count=COUNT, most=2):
    lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
    held = limit(lm, max_in_flight=most)
    async def everybody():
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
        with dspy.context(lm=lm):
            results = await asyncio.gather(*(program.acall(question=f"q{n}") for n in range(count)))
        if hasattr(lm, "aclose"):
            await lm.aclose()
        return results
    results = asyncio.run(everybody())
    assert len(results) == count
    assert server.stats().peak_in_flight <= most, server.stats()
    assert (held.in_flight, held.waiting) == (0, 0), held
    print("done", count, server.stats().completed)
"""

CASES = {
    "loop in thread in loop in thread": """
with LMServer(latency=0.001) as server:
    inner = async_module(Ask, engine="thread")
    main(nest("loop", lambda: nest("thread", lambda: nest("loop", inner)()) ()) (), server)
""",
    "thread in loop in thread in loop": """
with LMServer(latency=0.001) as server:
    inner = async_module(Ask, engine="loop")
    main(nest("thread", lambda: nest("loop", lambda: nest("thread", inner)()) ()) (), server)
""",
    "auto all the way": """
with LMServer(latency=0.001) as server:
    inner = async_module(Ask)
    main(nest("auto", lambda: nest("auto", lambda: nest("auto", inner)()) ()) (), server)
""",
    "a run that awaits runs": """
@async_module(engine="thread")
class Outer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = async_module(Ask(), engine="loop")
    def forward(self, question):
        async def both():
            return await asyncio.gather(
                self.ask.acall(question=question), run(self.ask, question=question, engine="thread")
            )
        from dspy_parallel import await_
        return await_(both())[0]

with LMServer(latency=0.001) as server:
    main(Outer(), server, most=1)
""",
    "tools that call programs that call tools": """
def make(engine, depth):
    ask = Ask()
    below = make("thread" if engine == "loop" else "loop", depth - 1) if depth else None
    def look_up(text: str) -> str:
        "Looks something up."
        return (below if below else ask)(question=f"{depth} {text}").answer
    tool = dspy.Tool(look_up)
    class WithTool(dspy.Module):
        def __init__(self):
            super().__init__()
            self.predict = dspy.Predict("question -> answer")
        def forward(self, question):
            return dspy.Prediction(answer=tool(text=self.predict(question=question).answer))
    return async_module(WithTool, engine=engine)()

with LMServer(latency=0.001) as server:
    main(make("auto", 2), server)
""",
    "agents whose tools are programs": """
install()
ask = Ask()
def look_up(query: str) -> str:
    "Looks something up."
    return ask(question=query).answer

with LMServer(latency=0.001) as server:
    main(dspy.ReAct("question -> answer", tools=[look_up], max_iters=3), server)
""",
    "dspy.Parallel in a program in dspy.Parallel": """
install()
# tqdm's list of progress bars does not stand several threads that make some (KeyError: weakref), also in stock DSPy.
from unittest.mock import MagicMock
import tqdm
tqdm.tqdm = MagicMock()

class Fan(dspy.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
    def forward(self, question):
        items = [(self.inner, {"question": f"{question} {n}"}) for n in range(4)]
        dspy.Parallel(num_threads=2, disable_progress_bar=True)(items)
        return dspy.Prediction(answer="yes")

with LMServer(latency=0.001) as server:
    main(Fan(Fan(Ask())), server, count=12)
""",
    "sync callers in threads": """
asking = async_module(Ask, engine="loop")()
nested = nest("thread", lambda: asking)()
with LMServer(latency=0.001) as server:
    lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
    held = limit(lm, max_in_flight=1)
    from dspy_parallel import run_sync
    def call(n):
        with dspy.context(lm=lm):
            run_sync(nested, question=f"q{n}") if n % 2 else nested(question=f"q{n}")
    threads = [threading.Thread(target=call, args=(n,)) for n in range(COUNT)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert server.stats().completed == 2 * COUNT, server.stats()
    assert (held.in_flight, held.waiting) == (0, 0), held
""",
}


# What takes longest are the imports: each case has a fork of one process, which a signal ends if it hangs.
FORKS = f"""
import os, signal, sys, traceback
for name, source in {CASES!r}.items():
    if (child := os.fork()) == 0:
        signal.alarm(240)
        try:
            exec(source, globals())
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(name, os.waitpid(child, 0)[1], sep=": ", flush=True)
"""


@pytest.fixture(scope="module")
def ended() -> Ended:
    return run_child(PRELUDE + FORKS, python=PRELOADED, timeout=240 * (1 + len(CASES)))


@pytest.mark.timeout(250 * (1 + len(CASES)))
@pytest.mark.parametrize("case", CASES)
def test_no_deadlock(case: str, ended: Ended) -> None:
    """Ends within its time; the server never sees more than the limit."""
    assert f"{case}: 0\n" in ended.out, ended.err
