"""One thing that `doctor` has to say about a program."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["LEVELS", "Finding", "Level", "Place"]

Level = Literal["error", "warning", "note"]

LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""What fails or hangs; what costs time; what is worth knowing. The first two make the command's exit code 1."""


@dataclass(frozen=True)
class Place:
    """A line of source.

    Attributes:
        file: Its absolute path.
        line: From 1 on.
        function: The function or class that it is in.
    """

    file: str
    line: int
    function: str = ""

    @property
    def short(self) -> str:
        """File and line, seen from the current directory."""
        relative = os.path.relpath(self.file) if os.path.isabs(self.file) else self.file
        return f"{self.file if relative.startswith('..') else relative}:{self.line}"


@dataclass(frozen=True)
class Finding:
    """Something in a program that fails, blocks, or keeps it from running in parallel.

    Attributes:
        kind: Its short name, for instance `"blocks-loop"`; docs/doctor.md lists them all.
        level: `"error"` (it fails or hangs), `"warning"` (it costs time) or `"note"`.
        place: The file and line to change.
        program: The module, node or function that was looked at.
        message: What is there.
        cost: What it costs.
        instead: What to write instead.
        through: The calls that lead from the program to the place, outermost first.
    """

    kind: str
    level: Level
    place: Place
    program: str
    message: str
    cost: str
    instead: str
    through: tuple[Place, ...] = field(default=())

    @property
    def is_problem(self) -> bool:
        """Whether it counts for the exit code."""
        return self.level != "note"

    def as_data(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        data = asdict(self)
        place = data.pop("place")
        return {**data, "file": place["file"], "line": place["line"], "function": place["function"]}
