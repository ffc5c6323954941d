"""Which event loops are blocked by sync calls that wait for the running code."""

from __future__ import annotations

import asyncio
import contextvars

__all__ = ["Wait", "is_waiting"]

_waits: contextvars.ContextVar[tuple[Wait, ...]] = contextvars.ContextVar("dspy_parallel_waits", default=())
"""Those that wait for the running code."""


class Wait:
    """A sync call that waits for programs on another event loop; if made in code of a loop, it blocks that.

    Args:
        loop: Where the programs run.

    Attributes:
        blocked: The loop that it blocks, if any.
        is_over: Whether it waits no longer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        running = asyncio._get_running_loop()
        self.blocked = None if running is loop else running
        self.is_over = False
        self._all = _waits.get() if self.blocked is None else (*_waits.get(), self)

    def cover(self, context: contextvars.Context) -> None:
        """Make it, and what waits for the calling code, known in a program's context."""
        if self._all:
            context.run(_waits.set, self._all)


def is_waiting(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the loop is blocked by a sync call that waits for the running code, so that nothing may be sent there.

    Also known in threads and tasks that have a copy of the context.
    """
    return any(wait.blocked is loop and not wait.is_over for wait in _waits.get())


def is_own(variable: contextvars.ContextVar[object]) -> bool:
    """Whether it is this file's variable, which is no part of a program's context."""
    return variable is _waits
