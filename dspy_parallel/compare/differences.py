"""Whether two runs gave the same, and where they differ.

Identifiers that are made up anew in every run (UUIDs, a provider's ids of calls, addresses of objects) are the same if
one run's can be renamed to the other's: two that were equal must be equal again.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import dspy

__all__ = ["Difference", "differences", "plain_data"]

_WIDTH = 60
_MADE_UP = re.compile(
    r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"
    r"|\b(?:call|run|chatcmpl|toolu|msg|resp|lc_run|lc_)[-_]+[A-Za-z0-9_-]{6,}"
    r"|\b0x[0-9a-f]{6,}",
    re.IGNORECASE,
)


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


class _Names:
    """One run's made-up identifiers, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def in_text(self, text: str) -> str:
        return _MADE_UP.sub(lambda found: f"<id {self._numbers.setdefault(found[0], len(self._numbers))}>", text)

    def of_keys(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        return {self.in_text(key) if isinstance(key, str) else key: item for key, item in value.items()}


def differences(before: Any, after: Any) -> Iterator[Difference]:
    """Every place at which two outputs differ; nothing if they are the same."""
    return _between(before, after, "", _Names(), _Names())


def _between(before: Any, after: Any, path: str, ours: _Names, theirs: _Names) -> Iterator[Difference]:
    one, other = plain_data(before), plain_data(after)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        one, other = ours.of_keys(one), theirs.of_keys(other)
        for key in [*one, *(key for key in other if key not in one)]:
            here = f"{path}[{key!r}]"
            if key not in one or key not in other:
                yield Difference(here, _text(one, key), _text(other, key))
            else:
                yield from _between(one[key], other[key], here, ours, theirs)
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from _between(left, right, f"{path}[{number}]", ours, theirs)
    elif isinstance(one, str) and isinstance(other, str):
        if ours.in_text(one) != theirs.in_text(other):
            yield Difference(path or "output", _cut(before), _cut(after))
    elif not _equal(one, other, ours, theirs):
        yield Difference(path or "output", _cut(before), _cut(after))


def plain_data(value: Any) -> Any:
    """The data in an object that is made of data."""
    if isinstance(value, (dspy.Example, dspy.Prediction)):
        return value.toDict()
    if isinstance(value, BaseException):
        return {"raises": type(value).__qualname__, "text": str(value)}
    if hasattr(value, "model_dump") and hasattr(type(value), "model_fields"):
        # LangChain's messages count as equal whatever their ids are, which some of its classes number.
        skipped = {"id"} if str(type(value).__module__).startswith("langchain_core.messages") else set[str]()
        return {name: getattr(value, name) for name in type(value).model_fields if name not in skipped}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return value


def _equal(one: Any, other: Any, ours: _Names, theirs: _Names) -> bool:
    try:
        if bool(one == other):
            return True
    except Exception:  # arrays and the like
        return ours.in_text(repr(one)) == theirs.in_text(repr(other))
    # Without an `__eq__` of its own, an object is equal to nothing but itself: compare what it is made of.
    is_plain = type(one) is type(other) and vars(object)["__eq__"] is inspect.getattr_static(one, "__eq__")
    if not is_plain or not hasattr(one, "__dict__"):
        # UUID objects, among others
        return type(one) is type(other) and ours.in_text(str(one)) == theirs.in_text(str(other)) != str(one)
    return not any(_between(vars(one), vars(other), "", ours, theirs))


def _text(owner: Mapping[Any, Any], key: Any) -> str:
    return _cut(owner[key]) if key in owner else "(missing)"


def _cut(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
