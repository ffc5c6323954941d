"""Spans of the same name in the same place of a program, taken together: what a chart has a line for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .figures import call_pieces, waits_by_call
from .spans import Span

__all__ = ["Group", "groups_of"]

_PASSED_THROUGH = ("wait", "thread", "step", "chain")
"""Kinds without a line of their own; their parts belong to what they are parts of."""


@dataclass
class Group:
    """One line of a chart.

    Attributes:
        kind: Of its spans.
        name: Of its spans.
        depth: How deep in the program.
        spans: Its spans, by time of start.
        model: Of the LM call that is all that happens in its spans; such a call has no line of its own.
        busy: The times that count, seconds: of LM calls, without what they wait for a limit or a connection.
        parts: The groups of their parts.
    """

    kind: str
    name: str
    depth: int
    spans: list[Span] = field(default_factory=list[Span])
    model: str = ""
    busy: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    parts: dict[tuple[str, str], Group] = field(default_factory=dict[tuple[str, str], "Group"])

    @property
    def label(self) -> str:
        """What the line is called."""
        return f"{self.name} · {self.model}" if self.model else self.name

    @property
    def seconds(self) -> float:
        """From the first start to the last end."""
        return max(span.end for span in self.spans) - self.spans[0].start

    def take_in(self) -> None:
        """A predictor and its one LM call are one line."""
        if self.kind != "predictor" or len(self.parts) != 1:
            return
        (part,) = self.parts.values()
        if part.kind == "lm" and not part.parts and len(part.spans) == len(self.spans):
            self.kind, self.model, self.busy, self.parts = "lm", part.name, part.busy, {}


def groups_of(spans: Sequence[Span]) -> list[Group]:
    """The groups of all spans, top to bottom; what blocks a loop comes last."""
    top = Group("", "", -1)
    group_of: list[Group] = []
    waits = waits_by_call(spans)
    for span in spans:
        above = top if span.parent is None else group_of[span.parent]
        if span.kind in _PASSED_THROUGH:
            group_of.append(above)
            continue
        key = span.kind, span.name
        group = above.parts.get(key)
        if group is None:
            group = above.parts[key] = Group(span.kind, span.name, above.depth + 1)
        group.spans.append(span)
        group.busy += call_pieces(span, waits) if span.kind == "lm" else [(span.start, span.end)]
        group_of.append(group)
    lines: list[Group] = []
    todo = list(reversed(top.parts.values()))
    while todo:
        line = todo.pop()
        line.take_in()
        lines.append(line)
        todo += reversed(line.parts.values())
    return sorted(lines, key=lambda line: line.kind == "blocked")
