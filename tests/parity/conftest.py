"""Tests of parity: what is recorded of a program is the same as when it is called."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/parity" in item.path.as_posix():
            for warning in (
                "ignore:Implementing custom LMs:DeprecationWarning",  # told of every subclass of BaseLM (DSPy 3.4)
                "ignore::DeprecationWarning:dspy.*",
                "ignore::pytest.PytestUnraisableExceptionWarning",  # connections left to the garbage collector
            ):
                item.add_marker(pytest.mark.filterwarnings(warning))
