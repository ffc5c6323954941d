"""The engines under test."""

from __future__ import annotations

import pytest

ENGINES = ("loop", "thread", "unpinned")
"""Pinned to one of them; or on the loop as what is known to be right there, so that what needs a thread gets one."""


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Runs the test once for each engine."""
    return request.param
