"""Tests of overlap."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/overlap" in item.path.as_posix():
            # Every subclass of BaseLM is told so by DSPy 3.4, whoever calls it.
            item.add_marker(pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning"))
