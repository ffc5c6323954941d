"""What an assignment binds."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from . import attributes, contents, expressions, purity
from .frame import Frame
from .strands import Halted, Pending, Strand

__all__ = ["assign"]


def assign(frame: Frame, target: ast.expr, value: Any, *, comprehension: bool = False) -> None:
    """Bind a target to a value."""
    if isinstance(target, ast.Name):
        if comprehension:
            frame.names[target.id] = value
        else:
            frame.store(target.id, value)
    elif isinstance(target, (ast.Tuple, ast.List)):
        _unpack(frame, target.elts, value, comprehension=comprehension)
    elif isinstance(target, ast.Subscript):
        owner = frame.force(expressions.evaluate(frame, target.value))
        key = frame.ready(expressions.evaluate(frame, target.slice))
        if type(owner) not in purity.BOXES:
            raise Halted(f"an item of {type(owner).__name__} is set")
        expressions.check_plain(key, *(contents.keys_to_compare(owner) if isinstance(owner, dict) else ()))
        if isinstance(key, slice):
            value = contents.iterate(frame, value)
        frame.put_into(owner, value)
        frame.touch(owner, lambda: operator.setitem(owner, key, value), "an item", writing=True)
    elif isinstance(target, ast.Attribute):
        owner = frame.force(expressions.evaluate(frame, target.value))
        attributes.put(frame, owner, frame.unmangled(target.attr), value)
    else:
        raise Halted(f"`{type(target).__name__.lower()}` as a target is not understood")


def _item_of(frame: Frame, value: Pending, index: int) -> Callable[[Strand], Any]:
    return lambda strand: contents.iterate(frame.at(strand), strand.force(value))[index]


def _unpack(frame: Frame, targets: list[ast.expr], value: Any, *, comprehension: bool) -> None:
    star = next((index for index, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
    if type(value) is Pending and not value.done and star is None:
        for index, target in enumerate(targets):
            item = frame.strand.fork(_item_of(frame, value, index), f"item {index} of {value.what}", value.boxes)
            assign(frame, target, item, comprehension=comprehension)
        return
    items = contents.iterate(frame, value)
    if star is not None:
        rest = len(items) - len(targets) + 1
        items = [*items[:star], items[star : star + rest], *items[star + rest :]]
    for target, item in zip(targets, items, strict=True):
        inner = target.value if isinstance(target, ast.Starred) else target
        assign(frame, inner, item, comprehension=comprehension)
