"""Names as text that shows: a name may hold anything, and must do nothing."""

from __future__ import annotations

import unicodedata

__all__ = ["printable", "shortened"]


def printable(text: str) -> str:
    """The text on one line, with whatever a terminal, a viewer or a parser might obey made visible instead.

    That is control characters (an escape sequence can rewrite what was printed), those that change the direction of
    writing, and half surrogates, which can't be written to a file.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def shortened(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
