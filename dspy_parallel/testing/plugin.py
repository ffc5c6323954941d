"""Pytest fixtures: `lm_server`, one server for a test, and `lm_server_factory`, as many as it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from dspy_parallel.testing.lm_server import LMServer

__all__ = ["lm_server", "lm_server_factory"]


@pytest.fixture
def lm_server_factory() -> Iterator[Callable[..., LMServer]]:
    """A function that starts servers with the given options; all are stopped after the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> LMServer:
            return stack.enter_context(LMServer(**options))

        yield start


@pytest.fixture
def lm_server(lm_server_factory: Callable[..., LMServer]) -> LMServer:
    """A server without latency and faults; change it with `lm_server.configure(...)`."""
    return lm_server_factory()
