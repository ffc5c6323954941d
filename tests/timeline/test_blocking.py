"""Blocked event loops are in the timeline with file and line; see tests/bridge/test_loop_monitor.py."""

from __future__ import annotations

import asyncio
import inspect
import threading

import pytest

from dspy_parallel import record
from tests.support.loops import LOOP_KINDS, run_on


def block(seconds):
    threading.Event().wait(seconds)  # the line that is to be named


LINE = inspect.getsourcelines(block)[1] + 1


@pytest.mark.parametrize("kind", LOOP_KINDS)
def test_code_that_blocks_is_named(kind):
    async def main():
        with record() as timeline:
            await asyncio.sleep(0.05)
            block(0.3)
            await asyncio.sleep(0.05)
        return timeline

    timeline = run_on(kind, main)
    blocked = [span for span in timeline.spans if span.kind == "blocked"]
    longest = max(blocked, key=lambda span: span.seconds)  # on a busy machine there may be others
    assert (longest.facts["file"], longest.facts["line"], longest.facts["function"]) == (__file__, LINE, "block")
    assert f"test_blocking.py:{LINE}" in str(timeline)


async def test_a_block_that_the_recording_ends_with_is_found():
    with record() as timeline:
        await asyncio.sleep(0.05)
        block(0.2)
    assert [span.facts["line"] for span in timeline.spans] == [LINE]


@pytest.mark.parametrize("outside", ["in the loop", "around the loop"])
def test_nested_recordings_have_a_block_once_each(outside):
    async def main():
        with record() as inner:
            await asyncio.sleep(0.05)
            block(0.2)
            await asyncio.sleep(0.05)
        return inner

    async def both():
        with record() as outer:
            return outer, await main()

    if outside == "in the loop":
        timelines = asyncio.run(both())
    else:
        with record() as outer:
            timelines = outer, asyncio.run(main())
    for timeline in timelines:
        assert [s.facts["line"] for s in timeline.spans if s.facts.get("function") == "block"] == [LINE]


async def test_an_idle_loop_is_not_blocked():
    with record() as timeline:
        await asyncio.sleep(0.2)
    assert timeline.spans == []
