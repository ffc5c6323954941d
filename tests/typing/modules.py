"""Types of decorator, mixin and install(), as users see them. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import dspy
from typing_extensions import assert_type

from dspy_parallel import AsyncModuleMixin, async_module, install, run, uninstall


class Plain(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


@async_module
class Bare(dspy.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, text: str) -> int:
        return self.size


@async_module()
class Called(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


@async_module(engine="thread")
class WithEngine(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


class Mixed(AsyncModuleMixin, dspy.Module, engine="loop"):
    def forward(self, text: str) -> int:
        return len(text)


class Below(Mixed, engine="auto"):
    pass


def classes_and_instances_keep_their_types() -> None:
    assert_type(Bare(1).size, int)
    assert_type(Called(), Called)
    assert_type(WithEngine().forward("a"), int)
    assert_type(async_module(Plain), type[Plain])
    assert_type(async_module(Plain()), Plain)
    assert_type(async_module(Plain(), engine="loop"), Plain)
    assert_type(async_module(Plain, engine="loop"), type[Plain])
    assert_type(Below().forward("a"), int)
    install(engine="loop")
    uninstall()


async def acall_has_the_signature_of_forward() -> None:
    assert_type(await Mixed().acall("a"), int)
    assert_type(await Below().acall(text="a"), int)
    await Mixed().acall(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def programs_can_be_run() -> None:
    assert_type(await run(Plain().forward, "a", engine="thread"), int)
    pending: Coroutine[Any, Any, int] = run(Plain().forward, "a")
    await pending


def wrong_uses_are_errors(function: Callable[[], int]) -> None:
    async_module(engine="process")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    install(engine="process")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
