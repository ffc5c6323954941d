"""Every test here ends without limits and without patches."""

from __future__ import annotations

import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from dspy_parallel import limit_all, uninstall
from dspy_parallel.limits.limiter import Queue
from dspy_parallel.testing import LMServer


@pytest.fixture(autouse=True)
def unlimited() -> Iterator[None]:
    yield
    limit_all()
    uninstall()


@pytest.fixture(scope="module")
def module_server() -> Iterator[LMServer]:
    """The process behind `server`."""
    with LMServer() as server:
        yield server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()  # LiteLLM and DSPy leave sockets and connections to the garbage collector


@pytest.fixture
def server(module_server: LMServer) -> LMServer:
    """An LM server with default options and nothing counted."""
    module_server.restore()
    return module_server


@pytest.fixture
def came(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released by each call that comes to a limit's queue, whether it has to wait there or not."""
    came, push = threading.Semaphore(0), Queue.push

    def counted(*args: Any) -> None:
        push(*args)
        came.release()

    monkeypatch.setattr(Queue, "push", counted)
    return came


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/limits" in item.path.as_posix():
            # Every subclass of BaseLM is told so by DSPy 3.4, and LiteLLM leaves sockets to the garbage collector.
            item.add_marker(pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings(f"ignore:{SOCKETS}:pytest.PytestUnraisableExceptionWarning"))


SOCKETS = "Exception ignored in.*socket"
