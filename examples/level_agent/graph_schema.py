"""The graph that is asked: labels, their properties, and which properties have a vector index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["LABELS", "Label", "Property"]

PropertyType = Literal["STRING", "INTEGER", "FLOAT", "BOOLEAN", "DATETIME"]


@dataclass(frozen=True)
class Property:
    """One property of the nodes of a label."""

    name: str
    type: PropertyType = "STRING"
    values: tuple[str, ...] = ()
    """All values there are, where they are few."""
    note: str = ""
    """What the name does not say."""
    vector_index: str | None = None

    def described(self) -> str:
        """How a prompt names it: `priority: INTEGER, 1 is the highest`, `status: STRING, one of draft, proposed`."""
        note = f"one of {', '.join(self.values)}" if self.values else self.note
        return f"{self.name}: {self.type}" + (f", {note}" if note else "")


@dataclass(frozen=True)
class Label:
    """One kind of node."""

    name: str
    properties: tuple[Property, ...]

    def find(self, name: str) -> Property | None:
        """The property of that name, if there is one."""
        return next((p for p in self.properties if p.name == name), None)

    @property
    def time_properties(self) -> list[str]:
        """Names of what the time extractor may filter by."""
        return [p.name for p in self.properties if p.type == "DATETIME"]

    @property
    def nontime_properties(self) -> list[str]:
        """Descriptions of what the non-time extractor may filter by."""
        return [p.described() for p in self.properties if p.type != "DATETIME" and p.vector_index is None]

    @property
    def vector_properties(self) -> list[str]:
        """Names of what can be searched by meaning."""
        return [p.name for p in self.properties if p.vector_index is not None]


LABELS = {
    label.name: label
    for label in (
        Label(
            "Idea",
            (
                Property("title"),
                Property("author"),
                Property("status", values=("draft", "proposed", "accepted", "rejected")),
                Property("votes", "INTEGER"),
                Property("created_at", "DATETIME"),
                Property("updated_at", "DATETIME"),
                Property("description", vector_index="idea_description"),
            ),
        ),
        Label(
            "Task",
            (
                Property("title"),
                Property("assignee"),
                Property("status", values=("open", "in_progress", "blocked", "done")),
                Property("priority", "INTEGER", note="1 is the highest"),
                Property("estimate_hours", "FLOAT"),
                Property("created_at", "DATETIME"),
                Property("due_at", "DATETIME"),
                Property("description", vector_index="task_description"),
            ),
        ),
        Label(
            "Person",
            (
                Property("name"),
                Property("team"),
                Property("role"),
                Property("active", "BOOLEAN"),
                Property("joined_at", "DATETIME"),
                Property("bio", vector_index="person_bio"),
            ),
        ),
        Label(
            "Document",
            (
                Property("title"),
                Property("author"),
                Property("kind", values=("spec", "report", "minutes", "contract")),
                Property("language", note="ISO 639 code"),
                Property("pages", "INTEGER"),
                Property("confidential", "BOOLEAN"),
                Property("published_at", "DATETIME"),
                Property("updated_at", "DATETIME"),
                Property("content", vector_index="document_content"),
            ),
        ),
        Label(
            "Meeting",
            (
                Property("subject"),
                Property("organizer"),
                Property("room"),
                Property("attendees", "INTEGER"),
                Property("starts_at", "DATETIME"),
                Property("notes", vector_index="meeting_notes"),
            ),
        ),
    )
}
