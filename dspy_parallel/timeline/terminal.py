"""A timeline for terminals: a line for each thing that ran, its bar where it ran, and the figures below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from .escaping import printable, shortened
from .figures import call_pieces, figures_of, waits_by_call
from .groups import Group, groups_of
from .spans import Span
from .summary import summary

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["Line", "axis", "bar", "chart", "plain", "styled"]

Line = list[tuple[str, str]]
"""Pieces of text, each with a style: a kind of span, or one of `""`, `"bold"`, `"dim"`."""

MAX_LINES = 40

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_ENDS = " ▏▎▍▌▋▊▉█"

STYLES = {
    "bold": "bold",
    "dim": "dim",
    "graph": "magenta",
    "node": "magenta",
    "module": "cyan",
    "predictor": "blue",
    "lm": "green",
    "tool": "yellow",
    "blocked": "bold red",
}


def plain(lines: Sequence[Line]) -> str:
    """The lines without styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def styled(lines: Sequence[Line]) -> Text:
    """The lines for rich, which is an extra."""
    from rich.text import Text

    pieces: list[tuple[str, str]] = []
    for line in lines:
        pieces += [(text, STYLES.get(style, "")) for text, style in line]
        pieces.append(("\n", ""))
    return Text.assemble(*pieces[:-1], no_wrap=True)


def chart(spans: Sequence[Span], width: int) -> list[Line]:
    """The chart.

    Args:
        spans: Of a timeline.
        width: Columns.
    """
    if not spans:
        return [[("Nothing was recorded.", "dim")]]
    begin, end = min(s.start for s in spans), max(s.end for s in spans)
    total = max(end - begin, 1e-9)
    groups = groups_of(spans)
    labels = [_label(group) for group in groups]
    margin = min(max(max(map(len, labels), default=0) + 2, 19), max(width // 3, 19))
    columns = max(width - margin - 9, 10)
    lines: list[Line] = []
    for group, label in list(zip(groups, labels, strict=True))[:MAX_LINES]:
        drawn = bar(group.busy, begin, total, columns)
        lines.append(
            [
                (f"{shortened(label, margin - 1):<{margin}}", "" if group.kind != "blocked" else "blocked"),
                (drawn, group.kind),
                (f"{group.seconds:7.2f} s", "dim"),
            ]
        )
    if len(groups) > MAX_LINES:
        lines.append([(f"… and {len(groups) - MAX_LINES} more lines; save the timeline as .html to see all", "dim")])
    lines += _in_flight(spans, margin, begin, total, columns)
    lines.append([(" " * margin + axis(total, columns), "dim")])
    lines.append([])
    lines += [[(text, style)] for text, style in summary(spans)]
    return lines


def _label(group: Group) -> str:
    count = f" ×{len(group.spans)}" if len(group.spans) > 1 else ""
    return "  " * group.depth + printable(group.label) + count


def _in_flight(spans: Sequence[Span], margin: int, begin: float, total: float, columns: int) -> Iterator[Line]:
    calls = [span for span in spans if span.kind == "lm"]
    if len(calls) > 1:
        waits = waits_by_call(spans)
        busy = [piece for call in calls for piece in call_pieces(call, waits)]
        peak = figures_of(spans).peak_in_flight
        yield [
            (f"{'LM calls in flight':<{margin}}"[: margin - 1] + " ", "bold"),
            (bar(busy, begin, total, columns, always_heights=True), "lm"),
            (f"  peak {peak}", "dim"),
        ]


def bar(
    pieces: Sequence[tuple[float, float]], begin: float, total: float, columns: int, *, always_heights: bool = False
) -> str:
    """A bar on an axis: to an eighth of a column for one piece; for several, the higher the more at a time.

    Args:
        pieces: Times, seconds.
        begin: Where the axis begins; seconds.
        total: What it stands for; seconds.
        columns: How wide it is.
        always_heights: Also for one piece.
    """
    scale = columns / total
    if len(pieces) == 1 and not always_heights:
        first = min(int((pieces[0][0] - begin) * scale), columns - 1)
        eighths = max(round((pieces[0][1] - begin) * scale * 8) - first * 8, 1)
        whole, rest = divmod(min(eighths, (columns - first) * 8), 8)
        return f"{' ' * first + '█' * whole + _ENDS[rest].strip():<{columns}}"
    load = [0.0] * columns
    for start, end in pieces:
        low, high = (start - begin) * scale, (end - begin) * scale
        for column in range(max(int(low), 0), min(int(high) + 1, columns)):
            load[column] += max(min(high, column + 1) - max(low, column), 0.0)
        if high - low < 0.1 and int(low) < columns:
            load[int(low)] += 0.1  # too short to be seen otherwise
    peak = max(load) or 1.0
    return "".join(_HEIGHTS[min(max(round(value / peak * 8), int(value > 0)), 8)] for value in load)


def axis(total: float, columns: int) -> str:
    """Marks at round numbers of seconds, each where its moment is."""
    steps = (m * 10.0**e for e in range(-6, 10) for m in (1, 2, 5))
    step = next(s for s in steps if total / s <= max(columns // 12, 1))
    marks = [" "] * (columns + 9)
    for count in range(int(total / step + 1e-9) + 1):
        mark = f"{count * step:g}" + (" s" if count == 0 else "")
        at = round(count * step / total * columns)
        marks[at : at + len(mark)] = mark
    return "".join(marks)[: columns + 9].rstrip()
