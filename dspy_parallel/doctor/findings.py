"""One thing that `doctor` has to say about a program."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..analysis.places import Place
from ..display import Line, Shown
from ..escapes import escaped
from .catalogue import KINDS, LEVELS, Level

__all__ = ["LEVELS", "Finding", "Findings", "Level", "Place", "found"]

_IGNORE = re.compile(r"#\s*dspy-parallel:\s*ignore(?:\[([\w\s,-]*)\])?")


@dataclass(frozen=True)
class Finding(Shown):
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

    @property
    def is_ignored(self) -> bool:
        """Whether a comment in its line says so: `# dspy-parallel: ignore`, or `ignore[kind, ...]`."""
        comment = _IGNORE.search(linecache.getline(self.place.file, self.place.line))
        return comment is not None and (comment[1] is None or self.kind in re.split(r"[\s,]+", comment[1]))

    def head(self) -> Line:
        """Its level, kind and place, to be shown."""
        level = "bad" if self.level == "error" else "tool" if self.is_problem else "dim"
        return [(self.level, level), (f": {self.kind}  ", "bold"), (f"{escaped(self.place.short)}  ", "module")]

    def _lines(self) -> list[Line]:
        said = [(f"{self.message} ", ""), (f"costs: {self.cost} ", "dim"), (f"write: {self.instead}", "good")]
        return [[*self.head(), *((escaped(text), style) for text, style in said)]]

    def as_data(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        data = asdict(self)
        place = data.pop("place")
        return {**data, "file": place["file"], "line": place["line"], "function": place["function"]}


def found(
    kind: str,
    place: Place,
    program: str,
    words: Mapping[str, object],
    *,
    through: tuple[Place, ...] = (),
    level: Level | None = None,
) -> Finding:
    """A finding of one of the known kinds; the words are put into its texts."""
    known = KINDS[kind]
    message, cost, instead = (text.format(**words) for text in known[1:])
    return Finding(kind, level or known.level, place, program, message, cost, instead, through)


class Findings(Shown, list[Finding]):
    """A list of findings that is to be read."""

    def _lines(self) -> Iterator[Line]:
        for finding in self:
            yield from finding._lines()
        if not self:
            yield [("Nothing found.", "good")]
