"""Programs for `engine="auto"`, and what it makes of them."""

from __future__ import annotations

import asyncio
import select
import warnings
from collections.abc import Callable
from typing import Any

from dspy_parallel.bridge import placement_of, run
from dspy_parallel.errors import BlockingWarning

BLOCK = 0.25


def block(seconds: float = BLOCK) -> None:
    """Blocks by something real that no library patches."""
    select.select([], [], [], seconds)


async def answer() -> int:
    await asyncio.sleep(0.001)
    return 1


async def times(n: int, program: Callable[..., Any], *args: Any) -> list[Any]:
    return [await run(program, *args) for _ in range(n)]


async def until(state: str, program: Callable[..., Any]) -> list[Any]:
    """Run the program until it is in that state. On a busy machine, not every run gives a verdict."""
    results: list[Any] = []
    while placement_of(program).state != state:
        assert len(results) < 100, placement_of(program)
        results.append(await run(program))
    return results


def recorded(fn: Callable[..., Any], *args: Any) -> tuple[Any, list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = asyncio.run(fn(*args))
    return result, [warning for warning in seen if warning.category is BlockingWarning]


def on_loop(program: Callable[..., Any]) -> bool:
    return placement_of(program).state == "loop"
