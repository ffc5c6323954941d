"""What is shown to people: lines of text with styles, for terminals with and without colours, and for notebooks."""

from __future__ import annotations

import html
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["KINDS", "OTHER", "Colour", "Line", "Shown", "plain", "styled"]

Line = list[tuple[str, str]]
"""Pieces of text, each with a style: a kind of span, or one of `STYLES`. Foreign text is escaped by who makes them."""


class Colour(NamedTuple):
    """One kind's: rich's name for it in terminals, and the colours on light and on dark ground."""

    terminal: str
    light: str
    dark: str


OTHER = Colour("", "#b9c0ca", "#6a7280")
KINDS = {
    "module": Colour("cyan", "#8fb8de", "#3d6c9b"),
    "predictor": Colour("blue", "#6b9bd2", "#4a7fb5"),
    "lm": Colour("green", "#5fb878", "#3f9159"),
    "wait": Colour("", "#d9dde3", "#4b5362"),
    "tool": Colour("yellow", "#e5b35c", "#a97b2b"),
    "graph": Colour("magenta", "#cdb4e8", "#6d4f90"),
    "node": Colour("magenta", "#b592dc", "#8460ad"),
    "chain": Colour("", "#d8d3e4", "#55506a"),
    "thread": Colour("", "#e4e1d8", "#4a483f"),
    "blocked": Colour("bold red", "#e0605e", "#c8403e"),
    "critical": Colour("", "#d6450b", "#ff9a6b"),
}
"""Kinds of spans, and the mark of the critical path."""

STYLES = {"bold": "bold", "dim": "dim", "good": "bold green", "bad": "bold red"}
_CSS = {"bold": "font-weight:600", "dim": "opacity:.7", "good": "color:#3f9159", "bad": "color:#d6450b"}


def _css(style: str) -> str:
    """For light and dark ground: the darker colours are seen on both."""
    return f"color:{KINDS[style].dark}" if style in KINDS else _CSS.get(style, "")


def plain(lines: Iterable[Line]) -> str:
    """The lines without styles."""
    return "\n".join("".join(text for text, _ in line).rstrip() for line in lines)


def styled(lines: Iterable[Line]) -> Text:
    """The lines for rich, which is an extra."""
    from rich.text import Text

    pieces: list[tuple[str, str]] = []
    for line in lines:
        pieces += [(text, STYLES.get(style) or KINDS.get(style, OTHER).terminal) for text, style in line]
        pieces.append(("\n", ""))
    return Text.assemble(*pieces[:-1], no_wrap=True)


class Shown:
    """What knows its lines, and so how it looks as a string, in rich, and in a notebook."""

    @abstractmethod
    def _lines(self) -> Iterable[Line]:
        """What there is to see."""

    def __str__(self) -> str:
        return plain(self._lines())

    def __rich__(self) -> Text:
        return styled(self._lines())

    def _repr_html_(self) -> str:
        lines = (
            "".join(f'<span style="{_css(style)}">{html.escape(text)}</span>' for text, style in line)
            for line in self._lines()
        )
        return '<pre style="white-space: pre-wrap">' + "\n".join(lines) + "</pre>"
