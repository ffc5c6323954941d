"""What the extractors give: filters and searches, as typed values."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["PropertyFilter", "TimeFilter", "VectorSearch"]


class TimeFilter(BaseModel):
    """`created_at >= 2025-12-01T00:00:00Z`."""

    property: str
    operator: Literal["=", "<", "<=", ">", ">="]
    value: str = Field(description="ISO 8601 date and time with time zone")

    def __str__(self) -> str:
        return f"{self.property} {self.operator} {self.value}"


class PropertyFilter(BaseModel):
    """`author = "Anna"`, `status IN ["open", "blocked"]`."""

    property: str
    operator: Literal["=", "<>", "<", "<=", ">", ">=", "IN", "CONTAINS", "STARTS WITH"]
    value: str | int | float | bool | list[str]

    def __str__(self) -> str:
        return f"{self.property} {self.operator} {self.value!r}"


class VectorSearch(BaseModel):
    """Nodes whose property is close in meaning to the query."""

    property: str
    query: str
    top_k: int = 10

    def __str__(self) -> str:
        return f"{self.property} ~ {self.query!r}, best {self.top_k}"
