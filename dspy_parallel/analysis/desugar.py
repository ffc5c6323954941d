"""Syntax that stands for other syntax."""

from __future__ import annotations

import ast
from typing import Any

__all__ = ["RESULT", "loop_of"]

RESULT = ".result"
"""What the loop of a comprehension fills: no name of a program's is written like this."""


def loop_of(node: Any) -> ast.stmt:
    """The loop that a comprehension stands for: a `for`, an `if` for each condition, an `append`. The node keeps it."""
    known: ast.stmt | None = getattr(node, "_overlap_loop", None)
    if known is not None:
        return known
    result = ast.Name(RESULT, ast.Load())
    statement: ast.stmt
    if isinstance(node, ast.DictComp):
        statement = ast.Assign([ast.Subscript(result, node.key, ast.Store())], node.value)
    else:
        statement = ast.Expr(ast.Call(ast.Attribute(result, "append", ast.Load()), [node.elt], []))
    for clause in reversed(node.generators):
        for condition in reversed(clause.ifs):
            statement = ast.If(condition, [statement], [])
        statement = ast.For(clause.target, clause.iter, [statement], [])
    node._overlap_loop = ast.fix_missing_locations(ast.copy_location(statement, node))  # pyright: ignore[reportAttributeAccessIssue]
    return statement
