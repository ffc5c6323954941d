"""Ways to run a program for many inputs at once: what users have today, and ours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import dspy

from benchmarks.workload import Workload
from dspy_parallel import async_module

__all__ = ["BASELINE", "CONTENDERS", "Run", "make"]

Run = Callable[[Sequence[str]], Awaitable[None]]
"""Runs the program for each document, all at once if it can."""

BASELINE = "hand-written aforward"


def _sequential(program: dspy.Module) -> Run:
    def run(documents: Sequence[str]) -> None:
        for document in documents:
            program(document=document)

    return partial(asyncio.to_thread, run)


def _threads(program: dspy.Module) -> Run:
    def run(documents: Sequence[str]) -> None:
        with ThreadPoolExecutor(len(documents)) as executor:
            list(executor.map(lambda document: program(document=document), documents))

    return partial(asyncio.to_thread, run)


def _gather(call: Callable[..., Awaitable[Any]]) -> Run:
    async def run(documents: Sequence[str]) -> None:
        await asyncio.gather(*(call(document=document) for document in documents))

    return run


def _ours(cls: type[dspy.Module], engine: str) -> type[dspy.Module]:
    return async_module(type(cls.__name__, (cls,), {}), engine=engine)  # type: ignore[call-overload, no-any-return]


CONTENDERS: dict[str, Callable[[Workload, Any], Run]] = {
    "sequential sync": lambda work, lm: _sequential(_with_lm(work.plain, lm)),
    "threads, one per run": lambda work, lm: _threads(_with_lm(work.plain, lm)),
    "dspy.asyncify": lambda work, lm: _gather(dspy.asyncify(_with_lm(work.plain, lm))),
    BASELINE: lambda work, lm: _gather(_with_lm(work.hand, lm).acall),
    "ours, loop": lambda work, lm: _gather(_with_lm(_ours(work.plain, "loop"), lm).acall),
    "ours, auto": lambda work, lm: _gather(_with_lm(_ours(work.plain, "auto"), lm).acall),
    "ours, thread": lambda work, lm: _gather(_with_lm(_ours(work.plain, "thread"), lm).acall),
}


def _with_lm(cls: type[dspy.Module], lm: Any) -> dspy.Module:
    program = cls()
    program.set_lm(lm)
    return program


def make(name: str, work: Workload, lm: Any) -> Run:
    """A contender with a program of its own."""
    return CONTENDERS[name](work, lm)
