"""What an import statement inside a function binds."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from .sources import is_library

__all__ = ["MISSING", "bound_by"]

MISSING = object()
"""Stands for what can't be told."""


def bound_by(node: ast.Import | ast.ImportFrom, namespace: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each name that the statement binds, and what it stands for.

    Args:
        node: The statement.
        namespace: The globals of the code that it is in.
    """
    if isinstance(node, ast.Import):
        for alias in node.names:
            whole, top = _module(alias.name), alias.name.partition(".")[0]
            yield (alias.asname, whole) if alias.asname else (top, _module(top))
        return
    name = node.module or ""
    if node.level:
        name = f"{str(namespace.get('__package__')).rsplit('.', node.level - 1)[0]}.{name}".rstrip(".")
    for alias in node.names:
        found = getattr(_module(name), alias.name, MISSING)
        yield alias.asname or alias.name, _module(f"{name}.{alias.name}") if found is MISSING else found


def _module(name: str) -> Any:
    """A module that has been imported, or a library's; to import one of the user's own would run it."""
    if name not in sys.modules and _is_library(name.partition(".")[0]):
        try:
            importlib.import_module(name)
        except Exception:  # whatever its code raises: then it is of no use to the program either
            return MISSING
    return sys.modules.get(name, MISSING)


def _is_library(root: str) -> bool:
    try:
        spec = importlib.util.find_spec(root)
    except (ImportError, ValueError):
        return False
    return spec is not None and (spec.origin in ("built-in", "frozen") or is_library(spec.origin or ""))
