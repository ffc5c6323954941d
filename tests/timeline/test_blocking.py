"""Blocked event loops are in the timeline with file and line; see tests/test_loop_monitor.py."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from dspy_parallel import record
from dspy_parallel.loop_monitor import LONG_SECONDS, LoopMonitor
from tests.support.gates import Gate
from tests.support.loops import LOOP_KINDS, run_on


def block(noticed):
    assert noticed.wait(60)  # the line that is to be named


LINE = inspect.getsourcelines(block)[1] + 1


@pytest.fixture
def looks(monkeypatch):
    """`looks(many, in_block=True)`: set when so many monitors have seen the block for long enough, or have looked."""
    watched, look = [], LoopMonitor.look

    def looking(monitor):
        look(monitor)
        for see in watched:
            see(monitor)

    def looks(many, *, in_block):
        enough, seen = Gate(), []

        def see(monitor):
            slices = [probe.slice for probe in monitor._probes.values()]
            for held in slices if in_block else []:
                is_block = held is not None and held.frame is not None and held.frame.f_code is block.__code__
                if is_block and held.looks > 1 and held.end - held.start >= LONG_SECONDS and monitor not in seen:
                    seen.append(monitor)
            if not in_block:
                seen.append(monitor)
            if len(seen) >= many:
                enough.set()

        watched.append(see)
        return enough

    monkeypatch.setattr(LoopMonitor, "look", looking)
    return looks


def blocks(timeline):
    """On a busy machine there may be others."""
    return [span for span in timeline.spans if span.kind == "blocked" and span.facts["function"] == "block"]


@pytest.mark.parametrize("kind", LOOP_KINDS)
def test_code_that_blocks_is_named(kind, looks):
    async def main():
        with record() as timeline:
            block(looks(1, in_block=True))
            await looks(2, in_block=False).passed()
        return timeline

    timeline = run_on(kind, main)
    assert [(span.facts["file"], span.facts["line"]) for span in blocks(timeline)] == [(__file__, LINE)]
    assert "while code blocked the event loop, most at " in str(timeline)


async def test_a_block_that_the_recording_ends_with_is_found(looks):
    with record() as timeline:
        block(looks(1, in_block=True))
    assert [span.facts["line"] for span in blocks(timeline)] == [LINE]


@pytest.mark.parametrize("outside", ["in the loop", "around the loop"])
def test_nested_recordings_have_a_block_once_each(outside, looks):
    async def main():
        with record() as inner:
            block(looks(2, in_block=True))
            await looks(4, in_block=False).passed()
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
        assert [span.facts["line"] for span in blocks(timeline)] == [LINE]


async def test_an_idle_loop_is_not_blocked(looks):
    with record() as timeline:
        await looks(8, in_block=False).passed()
    # But for this very function, which may have waited for the CPU before it waited for the looks.
    assert [span.name for span in timeline.spans if span.facts.get("file") != __file__] == []
