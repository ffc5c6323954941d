"""Programs whose spans are looked at."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/observability" in item.path.as_posix():
            item.add_marker(pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning"))
