"""A timeline for terminals: a line for each thing that ran, its bar where it ran, and the figures below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..display import Line
from .figures import busy_pieces, figures_of
from .groups import groups_of, marks_of
from .spans import Span
from .summary import summary

__all__ = ["axis", "bar", "chart"]

MAX_LINES = 40

_HEIGHTS = " ▁▂▃▄▅▆▇█"
_ENDS = " ▏▎▍▌▋▊▉█"


def chart(spans: Sequence[Span], width: int, *, whole: bool = False) -> list[Line]:
    """The chart.

    Args:
        spans: Of a timeline.
        width: Columns.
        whole: Whether the critical path has all that is on it.
    """
    if not spans:
        return [[("Nothing was recorded.", "dim")]]
    begin, end = min(s.start for s in spans), max(s.end for s in spans)
    total = max(end - begin, 1e-9)
    groups = groups_of(spans)
    margin = max((2 * group.depth + len(group.label) for group in groups), default=0) + 2
    margin = min(max(margin, 19), max(width * 2 // 5, 19))
    columns = max(width - margin - 9, 10)
    lines: list[Line] = []
    for group in groups[:MAX_LINES]:
        drawn = bar(group.busy, begin, total, columns)
        indent = min(2 * group.depth, 10)
        label = " " * indent + group.label_in(margin - 1 - indent)
        lines.append(
            [
                (f"{label:<{margin}}", "blocked" if group.kind == "blocked" else ""),
                (drawn, group.kind),
                (f"{group.seconds:7.2f} s", "dim"),
            ]
        )
    if len(groups) > MAX_LINES:
        lines.append([(f"… and {len(groups) - MAX_LINES} more lines; save the timeline as .html to see all", "dim")])
    lines += _in_flight(spans, margin, begin, total, columns)
    lines.append([(" " * margin + axis(total, columns), "dim")])
    lines.append([])
    lines += [[(text, style)] for text, style in summary(spans, whole=whole)]
    return lines


def _in_flight(spans: Sequence[Span], margin: int, begin: float, total: float, columns: int) -> Iterator[Line]:
    if sum(span.kind == "lm" for span in spans) > 1:
        busy = busy_pieces(spans)
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
    marks = [" "] * (columns + 9)
    for moment, text in marks_of(total, max(columns // 12, 1)):
        at = round(moment / total * columns)
        marks[at : at + len(text)] = text
    return "".join(marks)[: columns + 9].rstrip()
