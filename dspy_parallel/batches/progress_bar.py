"""The progress bar of a batch: rate and time left, in flight, errors, tokens."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import tqdm  # type: ignore[import-untyped]

__all__ = ["Progress", "tokens_in"]

EVERY_SECONDS = 0.2


def tokens_in(usage: Mapping[str, Any] | None) -> int:
    """The tokens of all LMs in what DSPy has counted."""
    tokens = 0
    for entry in (usage or {}).values():
        total = entry.get("total_tokens")
        if total is None:
            total = (entry.get("prompt_tokens") or 0) + (entry.get("completion_tokens") or 0)
        tokens += total
    return tokens


class _Bar(tqdm.tqdm):  # pyright: ignore[reportMissingTypeArgument]
    monitor_interval = 0  # no thread that looks after slow bars: this one is not redrawn by count


class Progress:
    """A bar on stderr that is redrawn a few times a second, however fast the examples are."""

    def __init__(self, total: int | None, *, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            self._bar = _Bar(total=total, unit="ex", dynamic_ncols=True, file=sys.stderr, mininterval=EVERY_SECONDS)
        self._drawn = 0.0
        self.errors = 0
        self.tokens = 0

    def finished(self, in_flight: int, *, failed: bool = False, resumed: bool = False) -> None:
        """Count an example. Those of an earlier run do not count for the rate."""
        bar = self._bar
        if bar is None:
            return
        self.errors += failed
        if resumed:
            bar.initial += 1
        bar.update()
        now = time.monotonic()
        if now - self._drawn >= EVERY_SECONDS:
            self._drawn = now
            self._describe(in_flight)

    def count_tokens(self, usage: Mapping[str, Any] | None) -> None:
        """Add what DSPy has counted for an example, by LM."""
        self.tokens += tokens_in(usage)

    def _describe(self, in_flight: int) -> None:
        self._bar.set_postfix_str(f"{in_flight} in flight, {self.errors} errors, {self.tokens:,} tokens", refresh=False)

    def close(self) -> None:
        """Draw the last state, and leave it on the screen."""
        if self._bar is not None:
            self._describe(0)
            self._bar.close()
