"""DSPy with its executors on the loop, and afterwards as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import dspy_parallel


@pytest.fixture
def on_loop() -> Iterator[Callable[..., Any]]:
    """`on_loop(call)`: the call with `install(executors=True)`."""

    def run(call: Callable[[], Any], **options: Any) -> Any:
        dspy_parallel.install(executors=True, **options)
        try:
            return call()
        finally:
            dspy_parallel.install(executors=False)

    yield run
    dspy_parallel.uninstall()
