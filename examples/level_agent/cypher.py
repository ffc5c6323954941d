"""Merges the three extractions into one Cypher query that the graph's schema allows.

A language model may name properties that do not exist. Such a filter never reaches the database: it is left out of
the query and reported, since a query without it finds more than was asked for. Values travel as parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .filters import PropertyFilter, TimeFilter, VectorSearch
from .graph_schema import Label, Property

__all__ = ["CypherQuery", "compose"]

_OPERATORS = {
    "STRING": {"=", "<>", "IN", "CONTAINS", "STARTS WITH"},
    "INTEGER": {"=", "<>", "<", "<=", ">", ">="},
    "FLOAT": {"=", "<>", "<", "<=", ">", ">="},
    "BOOLEAN": {"=", "<>"},
}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "INTEGER": (int,),
    "FLOAT": (int, float),
    "BOOLEAN": (bool,),
}


@dataclass(frozen=True)
class CypherQuery:
    """A query, its parameters, and what did not fit the schema."""

    text: str
    parameters: dict[str, Any]
    search_text: str | None = None
    """What the caller embeds and passes as `$search_vector`; None if the query needs none."""
    rejected: tuple[str, ...] = field(default=())
    """Filters that were left out, each with the reason."""


def compose(
    label: Label,
    time_filters: Sequence[TimeFilter],
    property_filters: Sequence[PropertyFilter],
    vector_searches: Sequence[VectorSearch],
) -> CypherQuery:
    """The query for the nodes of one label that pass every filter, best match first if there is a search."""
    conditions: list[str] = []
    parameters: dict[str, Any] = {}
    rejected: list[str] = []

    for number, time_filter in enumerate(time_filters):
        if problem := _time_problem(label, time_filter):
            rejected.append(f"{time_filter}: {problem}")
            continue
        name = f"time_{number}"
        parameters[name] = time_filter.value
        conditions.append(f"n.{time_filter.property} {time_filter.operator} datetime(${name})")

    for number, property_filter in enumerate(property_filters):
        if problem := _property_problem(label, property_filter):
            rejected.append(f"{property_filter}: {problem}")
            continue
        name = f"value_{number}"
        parameters[name] = property_filter.value
        conditions.append(f"n.{property_filter.property} {property_filter.operator} ${name}")

    search: VectorSearch | None = None
    for candidate in vector_searches:
        found = label.find(candidate.property)
        if found is None or found.vector_index is None:
            rejected.append(f"{candidate}: {label.name} has no vector index on {candidate.property}")
        elif search is not None:
            rejected.append(f"{candidate}: one search per level")
        else:
            search = candidate
            parameters["top_k"] = candidate.top_k

    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    if search is None:
        lines = [f"MATCH (n:{label.name})", where, "RETURN n"]
    else:
        index = _property(label, search.property).vector_index
        call = f"CALL db.index.vector.queryNodes('{index}', $top_k, $search_vector) YIELD node AS n, score"
        lines = [call, where, "RETURN n, score ORDER BY score DESC"]
    text = "\n".join(line for line in lines if line)
    return CypherQuery(text, parameters, search.query if search else None, tuple(rejected))


def _property(label: Label, name: str) -> Property:
    found = label.find(name)
    assert found is not None
    return found


def _time_problem(label: Label, wanted: TimeFilter) -> str | None:
    if wanted.property not in label.time_properties:
        return f"{label.name} has no time property {wanted.property}"
    try:
        # Python 3.10 does not read the "Z" of ISO 8601.
        datetime.fromisoformat(wanted.value.replace("Z", "+00:00"))
    except ValueError:
        return f"{wanted.value!r} is not a date and time"
    return None


def _property_problem(label: Label, wanted: PropertyFilter) -> str | None:
    found = label.find(wanted.property)
    if found is None or found.type == "DATETIME" or found.vector_index is not None:
        return f"{label.name} has no property {wanted.property} to filter by"
    if wanted.operator not in _OPERATORS[found.type]:
        return f"{wanted.operator} does not apply to {found.type}"
    if (wanted.operator == "IN") != isinstance(wanted.value, list):
        return "IN, and only IN, takes a list"
    values = wanted.value if isinstance(wanted.value, list) else [wanted.value]
    for value in values:
        # bool is a subclass of int, and True is no number of pages.
        if not isinstance(value, _PYTHON_TYPES[found.type]) or (isinstance(value, bool) and found.type != "BOOLEAN"):
            return f"{value!r} is not {found.type}"
        if found.values and wanted.operator in ("=", "<>", "IN") and value not in found.values:
            return f"{value!r} is none of {', '.join(found.values)}"
    return None
