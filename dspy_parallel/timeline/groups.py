"""What a chart has a line for, spans of the same name in the same place of a program; and the marks of its axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..escapes import escaped, shortened
from .figures import call_pieces, waits_by_call
from .spans import Span

__all__ = ["Group", "groups_of", "marks_of"]

_PASSED_THROUGH = ("wait", "thread", "chain", "stop")
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
        """What the line is called, with nothing in it that would be obeyed."""
        count = f" ×{len(self.spans)}" if len(self.spans) > 1 else ""
        return escaped(f"{self.name} · {self.model}" if self.model else self.name) + count

    def label_in(self, width: int) -> str:
        """The label in so many characters: the name of a model is cut last, and of it first the provider's."""
        if len(self.label) <= width or not (self.model or self.kind == "lm"):
            return shortened(self.label, width)
        model = escaped(self.model or self.name)
        ending = self.label.removeprefix(f"{escaped(self.name)} · ")
        room = width - len(f" · {ending}")
        if self.model and room >= 2:
            return f"{shortened(escaped(self.name), room)} · {ending}"
        bare = model.rpartition("/")[2]
        shorter = (ending, ending.removeprefix(model.removesuffix(bare)), shortened(bare, width))
        return next(text for text in shorter if len(text) <= width)

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


def marks_of(total: float, most: int) -> list[tuple[float, str]]:
    """Round numbers of seconds on an axis, each with its text.

    Args:
        total: What the axis stands for; seconds.
        most: How many there may be, after that at zero.
    """
    step = next(s for e in range(-6, 10) for m in (1, 2, 5) if total / (s := m * 10.0**e) <= most)
    return [(n * step, f"{n * step:g}" + ("" if n else " s")) for n in range(int(total / step + 1e-9) + 1)]
