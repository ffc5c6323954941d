"""Every test here starts with the seams in place; LM clients may leave connections to the garbage collector."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from dspy_parallel import seams
from dspy_parallel.testing import LMServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/streaming" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"))


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    seams.install()
    yield
    seams.uninstall()


@pytest.fixture(scope="module")
def module_server() -> Iterator[LMServer]:
    with LMServer() as server:
        yield server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture
def server(module_server: LMServer) -> LMServer:
    """An LM server with default options and nothing counted."""
    module_server.restore()
    return module_server
