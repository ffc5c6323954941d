"""The engines under test, and programs that are unknown to them at the start of each test."""

from __future__ import annotations

import pytest

from dspy_parallel.bridge import placement

ENGINES = ("loop", "thread", "auto")
"""As no test has run its programs before, "auto" means: on probation."""


@pytest.fixture(autouse=True)
def nothing_learned() -> None:
    """Programs are on probation again; tests share code objects between their parameters."""
    placement._placements.clear()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Runs the test once for each engine."""
    return request.param
