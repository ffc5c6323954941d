"""Types that users see. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Callable

import dspy
from typing_extensions import assert_type

from dspy_parallel import (
    AsyncModuleMixin,
    async_module,
    await_,
    in_bridge,
    install,
    loop_safe,
    offload,
    run,
    run_sync,
    uninstall,
)


def length(text: str, factor: int = 1) -> int:
    return len(text) * factor


async def fetch(text: str) -> bytes:
    return text.encode()


@async_module
class Bare(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


@async_module(engine="loop")
class WithEngine(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


class Mixed(AsyncModuleMixin, dspy.Module, engine="thread"):
    def forward(self, text: str) -> int:
        return len(text)


def decorated_classes_stay_what_they_are() -> None:
    assert_type(Bare(), Bare)
    assert_type(WithEngine(), WithEngine)
    assert_type(Bare().forward("a"), int)
    assert_type(async_module(Bare()), Bare)


async def running() -> None:
    assert_type(await run(length, "a", factor=2), int)
    assert_type(await run(length, "a", engine="loop"), int)
    assert_type(run_sync(length, "a"), int)


def inside() -> None:
    assert_type(await_(fetch("a")), bytes)
    assert_type(in_bridge(), bool)


@offload
def blocking(path: str) -> bytes:
    return path.encode()


@offload(reason="it reads a file")
def blocking_for_a_reason(path: str) -> bytes:
    return path.encode()


def marked_functions_keep_their_signature() -> None:
    assert_type(blocking("a"), bytes)
    assert_type(blocking_for_a_reason(path="a"), bytes)
    marked: Callable[[str, int], int] = loop_safe(length)
    assert_type(marked("a", 1), int)


def patching() -> None:
    install(engine="auto")
    uninstall()
