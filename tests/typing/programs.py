"""Types of what runs, limits, overlaps and records programs, as users see them. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import dspy
from typing_extensions import assert_type

from dspy_parallel import (
    BatchItem,
    Finding,
    Limit,
    OverlapReport,
    Placement,
    Span,
    Timeline,
    abatch,
    batch,
    diagnose,
    explain,
    gather,
    iter_batch,
    limit,
    limit_all,
    ordered,
    overlapped,
    own_history,
    parallel_map,
    placement_of,
    pure,
    record,
    run,
)
from dspy_parallel.overlap import CallReport
from dspy_parallel.testing import LMServer, LoggedRequest, ServerStats
from dspy_parallel.timeline import Figures, Segment


class Program(dspy.Module):
    def forward(self, text: str) -> int:
        return len(text)


def length(text: str, factor: int = 1) -> int:
    return len(text) * factor


async def later(text: str) -> bytes:
    return text.encode()


def batches(program: Program, lines: list[dict[str, str]], resume: Path) -> None:
    assert_type(batch(program, lines, on_error="return", resume=resume), list[Any])
    assert_type(iter_batch(program, lines, ordered=True, engine="loop"), Iterator[BatchItem])
    for item in iter_batch(program, lines, progress=False):
        assert_type(item.index, int)
        assert_type(item.error, BaseException | None)
    batch(program, lines, on_error="ignore")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_batches(program: Program, lines: list[dict[str, str]]) -> None:
    assert_type(abatch(program, lines, max_in_flight=10), AsyncIterator[BatchItem])
    async for item in abatch(program, lines):
        assert_type(item, BatchItem)


def several_at_once() -> None:
    assert_type(parallel_map(length, ["a"], max_in_flight=3), list[int])
    assert_type(gather(lambda: length("a"), lambda: "b", engine="thread"), list[Any])
    parallel_map(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def overlap(program: Program) -> None:
    assert_type(pure(length)("a", factor=2), int)
    assert_type(pure(Program), type[Program])
    assert_type(ordered(program), Program)
    same: Callable[[str, int], int] = overlapped(length)
    assert_type(same("a", 1), int)
    assert_type(overlapped(length)("a", factor=2), int)
    overlapped(length)(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    report = explain(program, text="a")
    assert_type(report, OverlapReport)
    assert_type(report.calls, list[CallReport])
    assert_type(report.calls[0].waited_for, str)


async def overlap_in_async_code() -> None:
    assert_type(await run(length, "a", overlap=True), int)


def limits(lm: dspy.BaseLM) -> None:
    held = limit(lm, lm, max_in_flight=50, requests_per_minute=3000, give_up_after=1.5)
    assert_type(held, Limit)
    assert_type((held.in_flight, held.waiting, held.allowed), tuple[int, int, float])
    limit_all(max_in_flight=100)
    limit(lm, max_in_flight="50")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def recordings(path: Path) -> None:
    recording: AbstractContextManager[Timeline] = record(include_text=True)
    with recording as timeline:
        assert_type(timeline, Timeline)
    assert_type(timeline.spans, list[Span])
    assert_type(timeline.spans[0].seconds, float)
    assert_type(timeline.spans[0].parent, int | None)
    assert_type(timeline.figures, Figures)
    assert_type(timeline.critical_path, list[Segment])
    assert_type(timeline.svg(width=800), str)
    timeline.save(path)
    assert_type(Timeline.load(path), Timeline)


def histories() -> None:
    with own_history() as calls:
        assert_type(calls, list[dict[str, Any]])


def findings(program: Program) -> None:
    found = diagnose(program, inputs={"text": "a"})
    assert_type(found, list[Finding])
    assert_type(found[0].instead, str)
    assert_type(placement_of(program), Placement)


def servers() -> None:
    with LMServer(latency=0.1, max_concurrency=8) as server:
        assert_type(server, LMServer)
        assert_type(server.api_base, str)
        assert_type(server.lm_kwargs(), dict[str, Any])
        assert_type(server.wait_for(requests=1, timeout=1), ServerStats)
        assert_type(server.stats().models["any"], int)
        assert_type(server.log(), list[LoggedRequest])
    assert_type(LMServer().start(), LMServer)


async def servers_in_async_code(server: LMServer) -> None:
    assert_type(await server.await_for(requests=1), ServerStats)
    assert_type(await server.astats(), ServerStats)
