"""Generated values are valid by pydantic's own judgement, for whatever schema pydantic writes."""

# ruff: noqa: UP007, UP045 - what typing.Optional and typing.Union make is part of what is tested

from __future__ import annotations

import datetime
import decimal
import uuid
from typing import Annotated, Any, Literal, Optional, Union

import pydantic
import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, MultipleOf
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, StringConstraints, TypeAdapter

from dspy_parallel.testing.schema_values import value_for


class Leaf(BaseModel):
    """A discriminated model."""

    kind: Literal["leaf"]
    size: Annotated[int, Gt(10), Lt(12)]


class Branch(BaseModel):
    """A discriminated, recursive model."""

    kind: Literal["branch"]
    parts: list[Annotated[Union[Leaf, Branch], Field(discriminator="kind")]]
    parent: Optional[Branch] = None


TYPES: list[Any] = [
    str,
    Annotated[str, StringConstraints(min_length=30)],
    Annotated[str, StringConstraints(max_length=4)],
    Annotated[int, Ge(100), Le(103)],
    Annotated[int, Ge(-5), Le(-3)],
    Annotated[int, Le(-100)],
    Annotated[int, Gt(5), MultipleOf(7)],
    Annotated[float, Gt(0.5), Lt(0.6)],
    Annotated[float, Ge(1000)],
    Annotated[float, Le(-1000)],
    bool,
    None,
    decimal.Decimal,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
    pydantic.AnyUrl,
    Literal["a", 2, None],
    list[int],
    Annotated[list[int], Len(5, 5)],
    Annotated[list[int], Len(0, 1)],
    set[str],
    Annotated[set[int], Len(4)],
    frozenset[bool],
    tuple[int, str, float],
    tuple[int, ...],
    dict[str, list[dict[str, int]]],
    Annotated[dict[str, int], Len(3)],
    Optional[list[Optional[int]]],
    Union[int, str],
    Leaf,
    Branch,
    list[Branch],
    Any,
]


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _schema(kind: Any) -> dict[str, Any]:
    return _adapter(kind).json_schema()


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_values_are_valid(kind: Any) -> None:
    """Whatever the digest."""
    for digest in "abcdefgh":
        value = value_for(_schema(kind), digest)
        _adapter(kind).validate_python(value)
        assert value == value_for(_schema(kind), digest)


@given(st.recursive(st.sampled_from([int, str, bool, float, None]), lambda t: t.map(lambda x: list[x]), max_leaves=4))
def test_nested_types(kind: Any) -> None:
    """Deep nesting comes to an end."""
    _adapter(kind).validate_python(value_for(_schema(kind), "a"))


def test_an_impossible_schema_does_not_hang() -> None:
    """Ten different booleans do not exist."""
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 10, "uniqueItems": True}
    assert sorted(value_for(schema, "a")) == [False, True]


def test_a_schema_that_refers_to_itself_ends() -> None:
    """Also when nothing in it is optional."""
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}}
    assert value_for(schema, "a")["a"]
