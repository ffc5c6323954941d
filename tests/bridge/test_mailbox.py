"""Calls that threads hand over to a loop: all arrive, in order, and most of them wake nobody up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from dspy_parallel.bridge.mailbox import Mailbox, mailbox_of

THREADS, CALLS = 8, 200


def test_all_arrive_in_the_order_in_which_a_thread_posts_them() -> None:
    async def main() -> list[tuple[int, int]]:
        mailbox, arrived, all_here = mailbox_of(asyncio.get_running_loop()), list[tuple[int, int]](), asyncio.Event()

        def arrive(thread: int, call: int) -> None:
            arrived.append((thread, call))
            if len(arrived) == THREADS * CALLS:
                all_here.set()

        def post(thread: int) -> None:
            for call in range(CALLS):
                mailbox.post(lambda call=call: arrive(thread, call))  # type: ignore[misc]

        threads = [threading.Thread(target=post, args=(thread,)) for thread in range(THREADS)]
        for thread in threads:
            thread.start()
        await asyncio.wait_for(all_here.wait(), 100)
        return arrived

    arrived = asyncio.run(main())
    for thread in range(THREADS):
        assert [call for found, call in arrived if found == thread] == list(range(CALLS))


def test_one_wake_up_for_what_comes_while_the_loop_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[int, list[int]]:
        loop = asyncio.get_running_loop()
        mailbox, arrived, wake_ups, tell = Mailbox(loop), list[int](), list[Any](), loop.call_soon_threadsafe
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call: (wake_ups.append(call), tell(call)))
        for number in range(3):
            mailbox.post(lambda number=number: arrived.append(number))  # type: ignore[misc]
        mailbox.post(lambda: mailbox.post(lambda: arrived.append(3)))  # for the next turn
        while len(arrived) < 4:
            await asyncio.sleep(0)
        return len(wake_ups), arrived

    assert asyncio.run(main()) == (2, [0, 1, 2, 3])


def test_a_closed_loop_takes_nothing() -> None:
    loop = asyncio.new_event_loop()
    mailbox = Mailbox(loop)
    mailbox.post(lambda: None)
    loop.close()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="closed"):
            mailbox.post(lambda: None)


def test_each_loop_has_its_own() -> None:
    async def main() -> Mailbox:
        found = mailbox_of(asyncio.get_running_loop())
        assert mailbox_of(asyncio.get_running_loop()) is found
        return found

    assert asyncio.run(main()) is not asyncio.run(main())
