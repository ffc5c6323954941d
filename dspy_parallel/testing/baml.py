"""JSON schemas from the type notation of DSPy's BAMLAdapter, e.g. ``{ name: string, tags: string[] } or null``."""

from __future__ import annotations

import ast
import re
from typing import Any

__all__ = ["baml_schemas"]

_FIELD = re.compile(r"^Output field `(\w+)` should be of type: ", re.MULTILINE)
_LEXEME = re.compile(r"""\s*(?:\#[^\n]*\n\s*)*("(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|[\w$]+|[{}\[\],:])""")
_NAMES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "boolean": {"type": "boolean"},
    "null": {"type": "null"},
}


def baml_schemas(system: str) -> dict[str, dict[str, Any]]:
    """The schema of each output field that a prompt describes in this notation.

    Enum classes appear by name only, so that their members cannot be known; they are taken for strings.
    """
    schemas = {}
    for found in _FIELD.finditer(system):
        try:
            schemas[found[1]] = _Reader(system, found.end()).union()
        except ValueError:
            continue
    return schemas


class _Reader:
    def __init__(self, text: str, position: int) -> None:
        self._text = text
        self._position = position

    def union(self) -> dict[str, Any]:
        branches = [self._list()]
        while self._take("or"):
            branches.append(self._list())
        return branches[0] if len(branches) == 1 else {"anyOf": branches}

    def _list(self) -> dict[str, Any]:
        schema = self._single()
        while self._text.startswith("[]", self._position):
            self._position += 2
            schema = {"type": "array", "items": schema}
        return schema

    def _single(self) -> dict[str, Any]:
        lexeme = self._next()
        if lexeme == "{":
            return self._object()
        if lexeme == "[":
            items = self.union()
            self._expect("]")
            return {"type": "array", "items": items}
        if lexeme == "dict" and self._take("["):
            self.union()
            self._expect(",")
            values = self.union()
            self._expect("]")
            return {"type": "object", "additionalProperties": values}
        if lexeme[0] == '"' or lexeme[0] in "-0123456789" or lexeme in ("True", "False"):
            return {"const": ast.literal_eval(lexeme)}
        return _NAMES.get(lexeme, {"type": "string"})

    def _object(self) -> dict[str, Any]:
        properties = {}
        while not self._take("}"):
            name = self._next()
            self._expect(":")
            properties[name] = self.union()
            self._take(",")
        return {"type": "object", "properties": properties}

    def _peek(self) -> re.Match[str]:
        found = _LEXEME.match(self._text, self._position)
        if found is None:
            raise ValueError("not a type")
        return found

    def _next(self) -> str:
        found = self._peek()
        self._position = found.end()
        return found[1]

    def _take(self, lexeme: str) -> bool:
        found = _LEXEME.match(self._text, self._position)
        if found is None or found[1] != lexeme:
            return False
        self._position = found.end()
        return True

    def _expect(self, lexeme: str) -> None:
        if not self._take(lexeme):
            raise ValueError(f"expected {lexeme!r}")
