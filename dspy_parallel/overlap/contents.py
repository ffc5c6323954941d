"""What is in a container: one item by its key, or all of them."""

from __future__ import annotations

import collections
import enum
import re
from typing import Any

from . import expressions, purity
from .frame import Frame
from .inert import SCALARS
from .strands import Halted

__all__ = ["item_of", "iterate", "keys_to_compare"]


def item_of(frame: Frame, container: Any, index: Any) -> Any:
    """An item of something that is there."""
    cls = type(container)
    if cls in purity.RECORDS:
        container = container._store
    elif cls not in _WITH_ITEMS and not (isinstance(container, tuple) and purity.is_plain(cls)):
        raise Halted("a type is made here" if isinstance(container, type) else f"items of a {cls.__qualname__}")
    expressions.check_plain(index, *([] if not isinstance(container, dict) else keys_to_compare(container)))
    if type(container) is collections.defaultdict and index not in container:
        if not purity.is_pure_function(container.default_factory) and container.default_factory not in purity.BOXES:
            raise Halted("a defaultdict's factory is code of your own")
        frame.strand.touch(container, writing=True)
    elif cls in purity.BOXES or cls in purity.RECORDS:
        frame.strand.touch(container)
    found = container[index]
    if cls not in purity.CONTAINERS and isinstance(container, tuple) and purity.is_box(type(found)):
        raise Halted("a container in a named tuple")
    return found


_WITH_ITEMS = frozenset((*purity.CONTAINERS, str, bytes, range, re.Match))


def keys_to_compare(table: dict[Any, Any]) -> list[Any]:
    """Those that are more than texts and numbers."""
    return [] if SCALARS.issuperset(map(type, table)) else list(table)


def iterate(frame: Frame, value: Any) -> list[Any]:
    """The items of something that can be iterated again; waits for it, but not for them."""
    value = frame.force(value)
    cls = type(value)
    if purity.is_box(cls):
        frame.strand.touch(value)
    if cls in purity.RECORDS:
        return list(value._store)
    if cls in (set, frozenset) and len(value) > 1 and not frame.scout.outside.is_made_set(value):
        raise Halted("the order in a set is only known when the program comes to it")
    if cls in purity.CONTAINERS or cls in (str, bytes, range):
        return list(value)
    if isinstance(value, tuple) and purity.is_plain(cls):
        if any(purity.is_box(type(each)) for each in value):
            raise Halted("a container in a named tuple")
        return list(value)
    if type(value) is enum.EnumMeta:
        return list(value)
    raise Halted(f"going over a {cls.__qualname__} may use it up, or run code of your own")
