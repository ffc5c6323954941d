"""Every test here starts with the seams in place and ends with them removed."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest

from dspy_parallel import seams
from dspy_parallel.testing import LMServer
from tests.seams.web import Web


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """The table, patched."""
    seams.install()
    yield
    seams.uninstall()


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
def web() -> Iterator[Web]:
    """A plain HTTP server."""
    with Web() as web:
        yield web
