"""Running programs so that a blocked event loop cannot go unnoticed."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from typing import Any

import dspy

from dspy_parallel import Placement, run
from dspy_parallel.bridge import start

VERSION = tuple(int(part) for part in dspy.__version__.split(".")[:2])

PATIENCE = 240.0
"""Seconds after which a rendezvous has failed."""


async def on_loop(program: Callable[..., Any], *args: Any) -> Any:
    """Run a program as engine="auto" does one that may be on the loop."""
    return await start(program, args, {}, Placement("program", "loop"))


async def with_engine(engine: str, program: Callable[..., Any], *args: Any) -> Any:
    """Run a program where the name says: "auto" is on the loop, with threads where they are needed."""
    return await (on_loop(program, *args) if engine == "auto" else run(program, *args, engine=engine))


def together(program: Callable[..., Any], count: int = 3, *, engine: str = "auto") -> list[Any]:
    """Run copies of a program at the same time on a fresh loop; each is given its number if it wants one.

    The program itself waits for the other copies, in whatever it calls.
    """
    numbered = bool(inspect.signature(program).parameters)

    async def main() -> list[Any]:
        runs = (with_engine(engine, program, *([n] if numbered else [])) for n in range(count))
        return await asyncio.wait_for(asyncio.gather(*runs), PATIENCE)

    return asyncio.run(main())


def alone(program: Callable[..., Any], *, engine: str = "auto") -> Any:
    """Run one program on a fresh loop."""
    return asyncio.run(asyncio.wait_for(with_engine(engine, program), PATIENCE))


def outcome(call: Callable[[], Any]) -> tuple[Any, ...]:
    """What a call gives: its value, or the type and text of its exception."""
    try:
        return "value", call()
    except Exception as exc:
        return type(exc), str(exc)


def same_as_sync(program: Callable[[], Any], *, engine: str = "auto") -> tuple[Any, ...]:
    """The outcome of a program, after a check that it is the same as that of a plain call."""
    plain = outcome(program)
    bridged = outcome(lambda: alone(program, engine=engine))
    assert bridged == plain
    return bridged


class Meeting:
    """A place in blocking code where everybody waits for everybody."""

    def __init__(self, count: int = 3) -> None:
        self._barrier = threading.Barrier(count)

    def wait(self) -> None:
        """Wait for the others; a broken barrier if they do not come."""
        self._barrier.wait(PATIENCE / 2)


class Blocker:
    """A blocking call that a task of the same loop ends: it can only do so if the loop runs meanwhile."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()

    def block(self) -> str:
        """Wait for the task."""
        self.entered.set()
        assert self.leave.wait(PATIENCE / 2), "the loop was blocked"
        return "left"

    async def relieve(self) -> None:
        """Wait for the blocking call to begin, then end it."""
        await asyncio.get_running_loop().run_in_executor(None, self.entered.wait, PATIENCE / 2)
        self.leave.set()
