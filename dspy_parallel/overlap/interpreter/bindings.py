"""What an assignment binds."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from ...analysis import effect_free
from ..runtime.attempts import Raised
from ..runtime.fibers import Fiber
from ..runtime.snapshot import is_scalar
from ..runtime.thunks import BailOut, Pending
from . import attribute_access, contents
from .frame import Frame, check_plain, reachable

__all__ = ["assign", "in_turn"]


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
        owner, key = frame.evaluate(target.value), frame.evaluate(target.slice)
        in_turn(frame, (owner, key), value, lambda inner: _set_item(inner, owner, key, value))
    elif isinstance(target, ast.Attribute):
        owner, name = frame.evaluate(target.value), frame.unmangled(target.attr)
        location = frame.interpreter.snapshot.location(name)
        if not is_scalar(value):
            frame.interpreter.snapshot.assigned.add(name)
        in_turn(
            frame, (owner,), value, lambda inner: attribute_access.put(inner, inner.force(owner), name, value), location
        )
    else:
        raise BailOut(f"`{type(target).__name__.lower()}` as a target is not understood")


def in_turn(
    frame: Frame,
    operands: tuple[Any, ...],
    value: Any,
    change: Callable[[Frame], Any],
    *locations: Any,
    is_free: bool = True,
) -> None:
    """Change an attribute or an item, now or when it is known whose and which. The first operand is its owner."""
    if is_free and not any(type(each) is Pending and not each.done for each in operands):
        change(frame)
        return
    reads, writes = reachable([*operands, value]), [*reachable(operands[:1]), *locations]
    frame.fiber.fork(lambda fiber: change(frame.at(fiber)), "what is set", reads, writes)


def _set_item(frame: Frame, container: Any, index: Any, value: Any) -> None:
    owner, key = frame.force(container), frame.ready(index)
    if type(owner) not in effect_free.BOXES:
        raise BailOut(f"an item of {type(owner).__name__} is set")
    check_plain(key, *(contents.keys_to_compare(owner) if isinstance(owner, dict) else ()))
    if isinstance(key, slice):
        value = contents.iterate(frame, value)
    frame.put_into(owner, value)
    frame.touch(owner, lambda: operator.setitem(owner, key, value), "an item", writing=True)


def _item_of(frame: Frame, value: Pending, index: int) -> Callable[[Fiber], Any]:
    return lambda fiber: contents.iterate(frame.at(fiber), fiber.force(value))[index]


def _unpack(frame: Frame, targets: list[ast.expr], value: Any, *, comprehension: bool) -> None:
    star = next((index for index, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
    if type(value) is Pending and not value.done and star is None:
        for index, target in enumerate(targets):
            item = frame.fiber.fork(_item_of(frame, value, index), f"item {index} of {value.what}", reachable([value]))
            assign(frame, target, item, comprehension=comprehension)
        return
    items = contents.iterate(frame, value)
    if star is not None:
        rest = len(items) - len(targets) + 1
        items = [*items[:star], items[star : star + rest], *items[star + rest :]]
    if len(items) != len(targets):
        raise Raised(ValueError(f"{len(items)} values to unpack, expected {len(targets)}"))
    for target, item in zip(targets, items, strict=True):
        inner = target.value if isinstance(target, ast.Starred) else target
        assign(frame, inner, item, comprehension=comprehension)
