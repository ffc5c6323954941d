"""One run of the interpreter: its entry points, and what its parts share. Knows no part itself."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..runtime.snapshot import Snapshot
from ..runtime.thunks import BailOut, Pending

__all__ = ["Handlers", "Interpreter", "Verdicts"]

MAX_STEPS = 20_000
"""How many expressions are evaluated from one call to the next: some 40 ms, in which the loop stands still."""


@dataclass(frozen=True)
class Handlers:
    """What syntax does, by its type.

    Attributes:
        expressions: Each gives a value, perhaps `Pending`.
        statements: Each says how it was left.
        call: The value of a call expression.
        apply: The value of calling something.
        enter: Interprets a function whose source can be read.
    """

    expressions: Mapping[type, Callable[..., Any]]
    statements: Mapping[type, Callable[..., Any]]
    call: Callable[..., Any]
    apply: Callable[..., Any]
    enter: Callable[..., Any]


@dataclass
class Verdicts:
    """What is known of the effects of functions.

    Attributes:
        known: The functions with their first arguments, and what they may do.
        open: Those that are being looked into.
        reach: How deep among these is the one that was come to again.
    """

    known: dict[Any, tuple[Any, Any, Any]] = field(default_factory=dict)
    open: list[Any] = field(default_factory=list)
    reach: int = sys.maxsize


class Interpreter:
    """Interprets one run of one program.

    Args:
        handlers: Its parts.
        snapshot: The heap as the program found it.
        issue: Makes a call as soon as its inputs are there: frame, target, arguments, keyword arguments.
        note: Is told where and why something waits.
        construct: Makes an instance of a class of DSPy's.
    """

    def __init__(
        self,
        handlers: Handlers,
        snapshot: Snapshot,
        issue: Callable[..., Any],
        note: Callable[[tuple[str, int] | None, str], None],
        construct: Callable[..., Any],
    ) -> None:
        self.handlers = handlers
        self.snapshot = snapshot
        self.issue = issue
        self.note = note
        self.construct = construct
        self.verdicts = Verdicts()
        self.steps = 0
        self.blanks: dict[type, Any] = {}
        """An instance of each class as `__init__` finds it, to ask what that does."""

    def evaluate(self, frame: Any, node: ast.expr) -> Any:
        """The value of an expression, perhaps `Pending`."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise BailOut("the program computes a lot here, which the scout would do slowly")
        return self._handler(self.handlers.expressions, node)(frame, node)

    def execute(self, frame: Any, body: Sequence[ast.stmt]) -> Any:
        """Interpret statements; says how they were left."""
        for node in body:
            frame.line = node.lineno
            frame.fiber.place = frame.place
            completion = self._handler(self.handlers.statements, node)(frame, node)
            if completion is not None:
                return completion
        return None

    @staticmethod
    def _handler(handlers: Mapping[type, Callable[..., Any]], node: ast.AST) -> Callable[..., Any]:
        handler = handlers.get(type(node))
        if handler is None:
            raise BailOut(f"`{type(node).__name__.lower()}` is not understood")
        return handler

    @staticmethod
    def unknown(what: str, *, is_plain: bool) -> Pending:
        """A value that only the program can know."""
        value = Pending(what, is_plain=is_plain)
        value.is_unknown = True
        return value
