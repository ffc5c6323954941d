"""Writes lines to the terminal: in colour where there is one, and as plain text elsewhere."""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..display import Line

__all__ = ["complain", "width", "write"]


def width() -> int:
    """Columns to write in."""
    return max(72, min(shutil.get_terminal_size((100, 24)).columns, 140))


def write(lines: Iterable[Line]) -> None:
    """Print lines, as they come. What is foreign in them has been escaped by whoever made them."""
    from ..display import plain, styled

    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        console = Console(highlight=False, soft_wrap=True)
        for line in lines:
            console.print(styled([line]))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a model says may not fit the terminal's encoding
    for line in lines:
        print(plain([line]), flush=True)


def complain(error: BaseException) -> None:
    """Print an error to stderr, with nothing in it that the terminal would obey."""
    from ..escapes import escaped

    print(escaped(str(error), keep="\n"), file=sys.stderr)
