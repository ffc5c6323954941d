"""Whether two runs gave the same, and where they differ."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import dspy

__all__ = ["Difference", "differences"]

_WIDTH = 60


@dataclasses.dataclass(frozen=True)
class Difference:
    """Where two outputs differ.

    Attributes:
        path: How to get there, such as `["found"][3].text`.
        before: What is there, as text.
        after: The same, of the other run.
    """

    path: str
    before: str
    after: str


def differences(before: Any, after: Any, path: str = "") -> Iterator[Difference]:
    """Every place at which two outputs differ; nothing if they are the same."""
    one, other = _plain(before), _plain(after)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            here = f"{path}[{key!r}]"
            if key not in one or key not in other:
                yield Difference(here, _text(one, key), _text(other, key))
            else:
                yield from differences(one[key], other[key], here)
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{path}[{number}]")
    elif not _equal(one, other):
        yield Difference(path or "output", _shortened(before), _shortened(after))


def _plain(value: Any) -> Any:
    """The data in an object that is made of data."""
    if isinstance(value, (dspy.Example, dspy.Prediction)):
        return value.toDict()
    if isinstance(value, BaseException):
        return {"raises": type(value).__qualname__, "text": str(value)}
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        # LangChain gives each message a random id of its own.
        return {name: getattr(value, name) for name in type(value).model_fields if name != "id"}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _equal(one: Any, other: Any) -> bool:
    try:
        if bool(one == other):
            return True
    except Exception:  # arrays and the like
        return repr(one) == repr(other)
    # Without an `__eq__` of its own, an object is equal to nothing but itself: compare what it is made of.
    is_plain = type(one) is type(other) and vars(object)["__eq__"] is inspect.getattr_static(one, "__eq__")
    return is_plain and hasattr(one, "__dict__") and not any(differences(vars(one), vars(other)))


def _text(owner: Mapping[Any, Any], key: Any) -> str:
    return _shortened(owner[key]) if key in owner else "(missing)"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
