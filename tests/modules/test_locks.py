"""Modules that hold a lock across an LM call, in ways that are common: never on the loop, where they would hang."""

from __future__ import annotations

import json

from tests.support.children import PRELOADED, run_child

SOURCE = """
import asyncio, contextlib, json, threading, warnings
from collections import defaultdict
import dspy
from dspy_parallel import async_module, placement_of
from dspy_parallel.testing import LMServer

warnings.simplefilter("ignore")
LOCK = threading.Lock()

def get_lock():
    return LOCK

@contextlib.contextmanager
def exclusive():
    with LOCK:
        yield

class Program(dspy.Module):
    lock = threading.Lock()
    reentrant = threading.RLock()
    inside = most = 0

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.locks = {"key": threading.Lock()}
        self.made = defaultdict(threading.Lock)

    def ask(self, question):
        cls = type(self)
        cls.inside += 1
        cls.most = max(cls.most, cls.inside)
        try:
            return self.predict(question=question)
        finally:
            cls.inside -= 1

@async_module
class ClassAttribute(Program):
    def forward(self, question):
        with self.lock:
            return self.ask(question)

@async_module
class Reentrant(Program):
    def forward(self, question):
        with Program.reentrant:
            return self.ask(question)

@async_module
class Dict(Program):
    def forward(self, question):
        with self.locks["key"]:
            return self.ask(question)

@async_module
class DefaultDict(Program):
    def forward(self, question):
        with self.made["key"]:
            return self.ask(question)

@async_module
class Helper(Program):
    def forward(self, question):
        with get_lock():
            return self.ask(question)

@async_module
class Manager(Program):
    def forward(self, question):
        with exclusive():
            return self.ask(question)

@async_module
class Stack(Program):
    def forward(self, question):
        with contextlib.ExitStack() as stack:
            stack.enter_context(exclusive())
            return self.ask(question)

async def learn(program):
    # On the loop, this would hang or let two in.
    await asyncio.gather(*(program.acall(question=str(n)) for n in range(3)))
    return placement_of(type(program)).engine, type(program).most

async def main():
    with dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        for cls in Program.__subclasses__():
            print(json.dumps([cls.__name__, *await learn(cls())]))

with LMServer(latency=0.005) as server:
    asyncio.run(main())
"""


def test_locks_across_lm_calls() -> None:
    ended = run_child(SOURCE, python=PRELOADED, timeout=240)
    outcomes = [json.loads(line) for line in ended.out.splitlines()]
    assert {outcome[0] for outcome in outcomes} == {
        *("ClassAttribute", "Reentrant", "Dict", "DefaultDict", "Helper", "Manager", "Stack")
    }
    for name, state, most in outcomes:
        assert (name, state, most) == (name, "thread", 1)
