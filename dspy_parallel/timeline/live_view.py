"""What goes on while it is recorded, in the terminal: for each LM what is in flight, waiting and done, and how fast."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dspy

from ..display import Line, styled
from ..errors import MissingExtraError
from ..escapes import escaped, shortened
from ..events import OpenSpan
from ..limits.assignment import limit_of

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["LiveView", "live_view"]

LOOKS_PER_SECOND = 4
RATE_SECONDS = 10.0
"""How far rates look back."""
MAX_LMS = 12


@dataclass
class _LM:
    """One LM's figures; those of the moment are counted anew at each look."""

    in_flight: int = 0
    waiting: int = 0
    done: int = 0
    failed: int = 0
    refused: int = 0
    ends: list[tuple[float, int]] = field(default_factory=list[tuple[float, int]])
    """Of calls that ended lately: when, and their tokens."""


class LiveView:
    """Counts the spans of a recording that goes on; each look costs what has changed since the last one.

    Args:
        spans: Grows while it is looked at.
    """

    def __init__(self, spans: Sequence[OpenSpan]) -> None:
        self._spans = spans
        self._seen = 0
        self._open: list[OpenSpan] = []
        self._lms: dict[str, _LM] = {}
        self._began = time.perf_counter()

    def look(self, now: float) -> None:
        """Count what has begun and ended since the last look."""
        there = len(self._spans)
        for span in self._spans[self._seen : there]:
            if span.kind in ("lm", "predictor", "tool"):
                self._open.append(span)
            elif span.kind == "wait" and span.facts.get("status") == 429:
                self._lms.setdefault(_model_of(span), _LM()).refused += 1
        self._seen = there
        still_open: list[OpenSpan] = []
        limits: dict[str, dict[int, int]] = {}
        for lm in self._lms.values():
            lm.in_flight = lm.waiting = 0
            lm.ends = [(end, tokens) for end, tokens in lm.ends if end > now - RATE_SECONDS]
        for span in self._open:
            owner = span.owner  # gone once it has ended
            if span.end is None:
                still_open.append(span)
            if span.kind != "lm" or span.facts.get("joined"):
                continue
            lm = self._lms.setdefault(span.name, _LM())
            if span.end is None:
                lm.in_flight += 1
                if isinstance(owner, dspy.BaseLM) and (limit := limit_of(owner)) is not None:
                    limits.setdefault(span.name, {})[id(limit)] = limit.waiting
            elif span.facts.get("error") != "CancelledError":
                lm.done += 1
                lm.failed += "error" in span.facts
                lm.ends.append((span.end, int(span.facts.get("tokens") or 0)))
        self._open = still_open
        for name, waiting in limits.items():
            lm = self._lms[name]
            lm.waiting = min(sum(waiting.values()), lm.in_flight)
            lm.in_flight -= lm.waiting

    def lines(self, now: float, width: int = 80) -> list[Line]:
        """What there is to see, in so many columns."""
        names = sorted(self._lms, key=lambda name: -self._lms[name].done - self._lms[name].in_flight)[:MAX_LMS]
        since = max(min(now - self._began, RATE_SECONDS), 0.1)
        rows: list[dict[str, tuple[str, str]]] = []
        for name in names:
            lm = self._lms[name]
            rows.append(
                {
                    "in flight": (f"{lm.in_flight:,}", "lm"),
                    "waiting": (f"{lm.waiting:,}", ""),
                    "done": (f"{lm.done:,}", ""),
                    "429s": (f"{lm.refused:,}", "bad" if lm.refused else ""),
                    "failed": (f"{lm.failed:,}", "bad" if lm.failed else ""),
                    "calls/s": (f"{len(lm.ends) / since:.1f}", ""),
                    "tokens/s": (f"{sum(tokens for _, tokens in lm.ends) / since:,.0f}", ""),
                }
            )
        columns = {title: max(len(title), *(len(row[title][0]) for row in rows)) + 2 for title in (rows or [{}])[0]}
        column = max([len(escaped(name)) for name in names] + [2])
        has_own_lines = column + sum(columns.values()) > width  # names of models are the last to be cut
        column = 2 if has_own_lines else column
        while column + sum(columns.values()) > width and len(columns) > 2:
            columns.popitem()
        lines: list[Line] = [[(f"{'LM':<{column}}" + "".join(f"{t:>{wide}}" for t, wide in columns.items()), "dim")]]
        for name, row in zip(names, rows, strict=True):
            cells = [(f"{row[title][0]:>{wide}}", row[title][1]) for title, wide in columns.items()]
            label = (f"{shortened(escaped(name), width):<{column}}", "bold")
            lines.append([label] if has_own_lines else [label, *cells])
            lines += [[("  ", ""), *cells]] if has_own_lines else []
        joined = {id(span.parent) for span in self._open if span.facts.get("joined")}  # wait for what is made early
        busy = Counter(escaped(span.name) for span in self._open if span.kind != "lm" and id(span) not in joined)
        now_running = ", ".join(f"{name} ×{count}" for name, count in busy.most_common(6))
        lines.append([(f"{now - self._began:.0f} s", "bold"), (shortened(f"  {now_running}", width - 8), "predictor")])
        return lines


def _model_of(span: OpenSpan) -> str:
    above: OpenSpan | None = span
    while above is not None and above.kind != "lm":
        above = above.parent
    return "(no LM)" if above is None else above.name


@contextmanager
def live_view(spans: Sequence[OpenSpan]) -> Generator[None]:
    """Show the view on stderr in the block, if that is a terminal; what the program prints goes above it."""
    if importlib.util.find_spec("rich") is None:
        raise MissingExtraError(
            "record(live=True) needs rich, which is not installed. The extra 'cli' has it: "
            "pip install 'dspy-parallel[cli]', or in a checkout pip install -e '.[cli]'."
        )
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    view = LiveView(spans)

    def look() -> Text:
        now = time.perf_counter()
        view.look(now)
        return styled(view.lines(now, console.width))

    # Where the program's output goes elsewhere, nothing of it is touched.
    how: dict[str, Any] = {"redirect_stdout": sys.stdout.isatty(), "refresh_per_second": LOOKS_PER_SECOND}
    with Live(console=console, get_renderable=look, transient=True, **how):
        yield
