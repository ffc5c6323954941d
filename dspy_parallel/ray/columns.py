"""Results as columns of an Arrow table."""

from __future__ import annotations

import dataclasses
import enum
import importlib
from typing import Any, cast

import dspy
import pydantic

from ..errors import ShippingError

__all__ = ["columns_of", "table_of"]


def columns_of(result: Any) -> dict[str, Any]:
    """A result by columns, in values that Arrow knows: models and dataclasses become dicts, enums their values."""
    if isinstance(result, (dspy.Prediction, dspy.Example)):
        result = dict(result.items())
    elif isinstance(result, pydantic.BaseModel) or _is_dataclass(result):
        result = _plain(result)
    fields: dict[Any, Any] = result if isinstance(result, dict) else {"result": result}
    return {str(name): _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, pydantic.BaseModel):
        return _plain(value.model_dump())
    if _is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(part) for part in cast("list[Any]", value)]
    return value


def _is_dataclass(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def table_of(rows: list[dict[str, Any]]) -> Any:
    """An Arrow table of rows, which need not have the same columns.

    Raises:
        ShippingError: If a value has no form in Arrow.
    """
    arrow: Any = importlib.import_module("pyarrow")
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Any] = {}
    for name in names:
        # All null, a text column would have no type, and the next block's another.
        kind = arrow.string() if name == "error" else None
        try:
            columns[name] = arrow.array([row.get(name) for row in rows], type=kind)
        except (arrow.ArrowInvalid, arrow.ArrowTypeError, arrow.ArrowNotImplementedError) as exc:
            raise ShippingError(
                f"The column {name!r} of the results has no form in Arrow ({type(exc).__name__}). "
                "Return text, numbers, dates, lists, dicts, pydantic models or dataclasses, of one type for all rows."
            ) from exc
    return arrow.table(columns)
