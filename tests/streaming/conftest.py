"""Every test here starts with the seams in place; LM clients may leave connections to the garbage collector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dspy_parallel import seams


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
