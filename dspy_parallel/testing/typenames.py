"""JSON schemas from the Python type names that DSPy writes into a prompt, e.g. ``list[int]`` or ``Literal['a']``."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import Any

__all__ = ["schema_for_type_name"]

_SCALARS: dict[str, dict[str, Any]] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "dict": {"type": "object", "additionalProperties": True},
    "Dict": {"type": "object", "additionalProperties": True},
    "list": {"type": "array", "items": {"type": "string"}},
    "List": {"type": "array", "items": {"type": "string"}},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "Any": {"type": "string"},
    "datetime": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}


@lru_cache(maxsize=1024)
def schema_for_type_name(name: str) -> dict[str, Any] | None:
    """The schema of a type as DSPy prints it, or None where the name alone does not tell (a model or enum class)."""
    try:
        return _schema(ast.parse(name.strip(), mode="eval").body)
    except SyntaxError:
        return None


def _schema(node: ast.expr) -> dict[str, Any] | None:
    if isinstance(node, ast.Constant) and node.value is None:
        return {"type": "null"}
    if isinstance(node, ast.Attribute):
        return _SCALARS.get(node.attr)
    if isinstance(node, ast.Name):
        return _SCALARS.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _any_of([node.left, node.right])
    if isinstance(node, ast.Subscript):
        parts = list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _generic(getattr(node.value, "id", getattr(node.value, "attr", "")), parts)
    return None


def _generic(origin: str, parts: list[ast.expr]) -> dict[str, Any] | None:
    if origin == "Literal":
        try:
            return {"enum": [ast.literal_eval(part) for part in parts]}
        except ValueError:
            return None
    if origin == "Optional":
        return _any_of([parts[0], ast.Constant(value=None)])
    if origin in ("Union", "UnionType"):
        return _any_of(parts)
    if origin.lower() in ("list", "set", "frozenset", "sequence"):
        items = _schema(parts[0])
        return None if items is None else {"type": "array", "items": items, "uniqueItems": "set" in origin.lower()}
    if origin.lower() in ("dict", "mapping"):
        values = _schema(parts[-1])
        return None if values is None else {"type": "object", "additionalProperties": values}
    if origin.lower() == "tuple":
        if len(parts) == 2 and isinstance(parts[1], ast.Constant) and parts[1].value is ...:
            return _generic("list", parts[:1])
        fixed = [_schema(part) for part in parts]
        return None if None in fixed else {"type": "array", "prefixItems": fixed, "minItems": len(fixed)}
    return None


def _any_of(parts: list[ast.expr]) -> dict[str, Any] | None:
    schemas = [_schema(part) for part in parts]
    known = [schema for schema in schemas if schema is not None]
    says_something = any(schema != {"type": "null"} for schema in known)
    return {"anyOf": known} if says_something else None
