"""Foreign text as text that shows: a name or a reply may hold anything, and must do nothing.

Used where something is printed, by every layer, and never before: values stay what they are.
"""

from __future__ import annotations

__all__ = ["escaped", "shortened"]

# Not printable, for Python, is what a terminal, a viewer or a parser might obey: control characters (an escape sequence
# can rewrite what was printed; C1 has one-byte forms of them), format characters (direction of writing,
# https://trojansource.codes, and zero width), half surrogates, which no file can hold, private and unassigned ones, and
# separators but for the space.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and marks without any ink, which make two names look like one."""


def escaped(text: str, *, keep: str = "") -> str:
    r"""The text, with whatever would be obeyed or is not seen written as Python writes it in a literal.

    Args:
        text: Anything.
        keep: Characters that stay, such as `"\n"` where text may have several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if character in keep else _visible(character) for character in text)


def _visible(character: str) -> str:
    if not character.isprintable() or character in _INVISIBLE:
        return character.encode("unicode_escape").decode("ascii")
    return character


def shortened(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= width else f"{text[: max(width - 1, 0)]}…"
