"""Shows on stderr what is being waited for, and for how long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """Tells what is being waited for: on a terminal in one line that counts the seconds, else a line for each wait.

    The line is written by a thread of its own, because a sync run blocks the thread it is in.

    Args:
        shown: Whether to write at all; None is only if stderr is a terminal.
        stream: Where to; by default stderr.
    """

    def __init__(self, shown: bool | None = None, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._shown = self._live if shown is None else shown

    @contextmanager
    def waiting(self, what: str) -> Generator[None, None, None]:
        """Show `what` until the context is left."""
        if not self._shown:
            yield
            return
        began = time.perf_counter()
        done = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(what, began, done), daemon=True)
        if self._live:
            ticker.start()
        else:
            self._write(f"{what} ...\n")
        try:
            yield
        finally:
            done.set()
            if self._live:
                ticker.join()
                self._write("\r\x1b[K")
            else:
                self._write(f"{what}: {time.perf_counter() - began:.2f} s\n")

    def _tick(self, what: str, began: float, done: threading.Event) -> None:
        while True:
            self._write(f"\r\x1b[K{what}  {time.perf_counter() - began:.1f} s")
            if done.wait(0.1):
                return

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
