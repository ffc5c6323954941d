"""Every test here starts with the seams in place and ends with them removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspy_parallel import seams
from tests.seams.web import Web


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    """The table, patched."""
    seams.install()
    yield
    seams.uninstall()


@pytest.fixture
def web() -> Iterator[Web]:
    """A plain HTTP server."""
    with Web() as web:
        yield web
