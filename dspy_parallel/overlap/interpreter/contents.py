"""What is in a container: one item by its key, or all of them."""

from __future__ import annotations

import collections
import enum
import operator
import re
from typing import Any

from ...analysis import effect_free
from ...analysis.trusted_types import SCALARS
from ..runtime.thunks import BailOut
from .frame import Frame, check_plain, raising

__all__ = ["item_of", "iterate", "keys_to_compare"]


def item_of(frame: Frame, container: Any, index: Any) -> Any:
    """An item of something that is there."""
    cls = type(container)
    if cls in effect_free.RECORDS:
        container = container._store
    elif cls not in _WITH_ITEMS and not (isinstance(container, tuple) and effect_free.is_plain(cls)):
        raise BailOut("a type is made here" if isinstance(container, type) else f"items of a {cls.__qualname__}")
    check_plain(index, *([] if not isinstance(container, dict) else keys_to_compare(container)))
    if type(container) is collections.defaultdict and index not in container:
        if not effect_free.is_pure_function(container.default_factory) and not any(
            container.default_factory is known for known in effect_free.BOXES
        ):
            raise BailOut("a defaultdict's factory is code of your own")
        frame.fiber.touch(container, writing=True)
    elif cls in effect_free.BOXES or cls in effect_free.RECORDS:
        frame.fiber.touch(container)
    found = raising(operator.getitem, container, index)
    if cls not in effect_free.CONTAINERS and isinstance(container, tuple) and effect_free.is_box(type(found)):
        raise BailOut("a container in a named tuple")
    return found


_WITH_ITEMS = frozenset((*effect_free.CONTAINERS, str, bytes, range, re.Match, enum.EnumMeta))


def keys_to_compare(table: dict[Any, Any]) -> list[Any]:
    """Those that are more than texts and numbers."""
    return [] if SCALARS.issuperset(map(type, table)) else list(table)


def iterate(frame: Frame, value: Any) -> list[Any]:
    """The items of something that can be iterated again; waits for it, but not for them."""
    value = frame.force(value)
    cls = type(value)
    if effect_free.is_box(cls):
        frame.fiber.touch(value)
    if cls in effect_free.RECORDS:
        return list(value._store)
    if cls in (set, frozenset) and len(value) > 1 and not frame.interpreter.snapshot.is_made_set(value):
        raise BailOut("the order in a set is only known when the program comes to it")
    if cls in effect_free.CONTAINERS or cls in (str, bytes, range):
        return list(value)
    if isinstance(value, tuple) and effect_free.is_plain(cls):
        if any(effect_free.is_box(type(each)) for each in value):
            raise BailOut("a container in a named tuple")
        return list(value)
    if type(value) is enum.EnumMeta:
        return list(value)
    raise BailOut(f"going over a {cls.__qualname__} may use it up, or run code of your own")
