"""LangSmith's `@traceable` functions around and inside programs: the tree of runs is that of a plain call."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import Any

import pytest

from tests.observability.programs import Whole, alone, decorated, together

langsmith = pytest.importorskip("langsmith")


class Collecting(langsmith.Client):  # type: ignore[misc, name-defined]
    """Keeps the runs, and sends nothing."""

    def __init__(self) -> None:
        super().__init__(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
        self.collected: dict[str, tuple[str, str | None]] = {}

    def create_run(self, name: str, inputs: Any, run_type: Any, **kwargs: Any) -> None:
        parent = kwargs.get("parent_run_id")
        self.collected[str(kwargs["id"])] = name, str(parent) if parent else None

    def update_run(self, run_id: Any, **kwargs: Any) -> None:
        """The run has ended."""


def runs_of(run: Any, program_of: Any) -> Counter[tuple[str, ...]]:
    """How often there is each path of names from the root down."""
    client = Collecting()

    @contextlib.contextmanager
    def around(name: str) -> Any:
        with langsmith.trace(name):
            yield

    async def one(number: int, call: Any) -> None:
        @langsmith.traceable(name=f"request {number}")
        async def request() -> None:
            await call(number)

        await request()

    with langsmith.tracing_context(client=client, enabled=True):
        asyncio.run(run(program_of(around), one))

    def path(key: str) -> tuple[str, ...]:
        name, parent = client.collected[key]
        return (*(path(parent) if parent else ()), name)

    return Counter(map(path, client.collected))


@pytest.mark.parametrize("way", ["thread", "auto"])
def test_runs_have_the_right_parents(way: str) -> None:
    found = runs_of(together, lambda around: decorated(around, way))
    assert found == runs_of(alone, Whole)
    assert found["request 7", "own 7", "inside 7"] == 1, "also in the tool's worker thread"
