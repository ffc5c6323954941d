"""A server of its own for each test, and no limit or patch left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspy_parallel import limit_all, uninstall
from dspy_parallel.testing import LMServer


@pytest.fixture(autouse=True)
def unlimited() -> Iterator[None]:
    yield
    limit_all()
    uninstall()


@pytest.fixture
def server() -> Iterator[LMServer]:
    with LMServer() as server:
        yield server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/chaos" in item.path.as_posix():
            # LiteLLM leaves sockets to the garbage collector.
            ignore = "ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning"
            item.add_marker(pytest.mark.filterwarnings(ignore))
