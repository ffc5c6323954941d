"""What a DSPy prompt asks for: the output fields, their types, and the format of the reply.

DSPy's adapters end the last user message with one sentence that lists the output fields, and describe each type
in the system message. Both are the same text, up to small changes, from DSPy 3.0 to 3.4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dspy_parallel.testing.baml import baml_schemas
from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.typenames import schema_for_type_name

__all__ = ["Field", "Form", "Plan", "plan_for", "schema_of_note"]

Form = Literal["chat", "json", "xml", "text"]

_STRING: Mapping[str, Any] = {"type": "string"}

_REQUIREMENTS = re.compile(
    r"Respond with (?:the corresponding output fields|a JSON object) ?"
    r"(?P<form>, starting with|in the following order|wrapped in XML tags).*\Z",
    re.DOTALL,
)
_FORMS: dict[str, Form] = {", starting with": "chat", "in the following order": "json", "wrapped in XML tags": "xml"}
_NAMES: dict[Form, re.Pattern[str]] = {
    "chat": re.compile(r"`\[\[ ## (\w+) ## \]\]`"),
    "json": re.compile(r"`(\w+)`"),
    "xml": re.compile(r"`<(\w+)>`"),
}
_TYPE_NAME = re.compile(r" \(must be formatted as a valid Python (.*)\)(?:, then|, and then|\.|$)", re.DOTALL)
_LISTED = re.compile(r"^\d+\. `(\w+)` \((.*?)\):", re.MULTILINE)
_NOTE = re.compile(r"\{(\w+)\} {8}# note: the value you produce (.*)")


@dataclass(frozen=True)
class Field:
    """One requested output field: its name, the schema of its value, and the XML template if the prompt has one."""

    name: str
    schema: Mapping[str, Any] = field(default_factory=lambda: _STRING)
    template: str | None = None


@dataclass(frozen=True)
class Plan:
    """The reply's format and its fields, in the order in which they were asked for."""

    form: Form
    fields: tuple[Field, ...] = ()


_plans: dict[tuple[str, str], Plan] = {}


def plan_for(conversation: Conversation) -> Plan:
    """Find out what a request asks for; the result is kept, because programs repeat their prompts."""
    user = conversation.last_user
    start = user.rfind("Respond with ")
    asked = _REQUIREMENTS.match(user, start) if start >= 0 else None
    if asked is None:
        return _plan_without_requirements(conversation)
    system = conversation.system
    key = (system, asked.group())
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) > 4096:
            _plans.clear()
        plan = _plans[key] = _plan(_FORMS[asked["form"]], asked.group(), system)
    if conversation.response_schema is not None:
        properties = conversation.response_schema.get("properties", {})
        fields = tuple(Field(f.name, _with_definitions(f, properties, conversation)) for f in plan.fields)
        return Plan("json", fields)
    if conversation.json_object and plan.form != "json":
        return Plan("json", plan.fields)
    return plan


def _with_definitions(known: Field, properties: Mapping[str, Any], conversation: Conversation) -> Mapping[str, Any]:
    """The field's part of the response schema; strict schemas lack open mappings, so the prompt's note is a spare."""
    if known.name not in properties:
        return known.schema
    definitions = (conversation.response_schema or {}).get("$defs", {})
    return {**properties[known.name], "$defs": definitions} if definitions else properties[known.name]


def _plan_without_requirements(conversation: Conversation) -> Plan:
    schema = conversation.response_schema
    if schema is not None:
        definitions = {"$defs": schema.get("$defs", {})}
        return Plan("json", tuple(Field(n, {**s, **definitions}) for n, s in schema.get("properties", {}).items()))
    if conversation.json_object:
        return Plan("json", (Field("answer"),))
    return Plan("text")


def _plan(form: Form, requirements: str, system: str) -> Plan:
    names = list(_NAMES[form].finditer(requirements))
    if form == "chat":
        names = [n for n in names if n[1] != "completed"]
    notes = _notes(system)
    described = baml_schemas(system)
    listed = dict(_LISTED.findall(system))
    fields = []
    for i, name in enumerate(names):
        end = names[i + 1].start() if i + 1 < len(names) else len(requirements)
        typed = _TYPE_NAME.match(requirements[name.end() : end])
        schema = _schema(notes.get(name[1]), typed[1] if typed else listed.get(name[1]), described.get(name[1]))
        template = _nested_xml(name[1], system) if form == "xml" and name[1] not in notes else None
        fields.append(Field(name[1], schema, template))
    return Plan(form, tuple(fields))


def _notes(system: str) -> dict[str, str]:
    """The type note of each field; JSONAdapter writes the notes as JSON strings inside an object."""
    notes = {}
    start = system.find("Outputs will be a JSON object with the following fields.")
    if start >= 0 and (brace := system.find("{", start)) >= 0:
        try:
            structure, end = json.JSONDecoder().raw_decode(system, brace)
            for text in structure.values():
                if isinstance(text, str) and (note := _NOTE.match(text)):
                    notes[note[1]] = note[2]
            system = system[:start] + system[end:]
        except ValueError:
            pass
    for note in _NOTE.finditer(system):
        notes.setdefault(note[1], note[2])
    return notes


def _schema(note: str | None, type_name: str | None, described: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The schema of a field by its note, which is exact, by BAMLAdapter's description, or by its type's name."""
    named = schema_for_type_name(type_name) if type_name else None
    if named is not None and "enum" in named:
        return named  # the note loses the types of the members, as in Literal[1, 2]
    exact = schema_of_note(note) if note is not None else None
    return exact or described or named or _STRING


def schema_of_note(note: str) -> Mapping[str, Any] | None:
    """The schema that a note such as "must be a single int value" stands for."""
    if note.startswith("must adhere to the JSON schema: "):
        try:
            schema, _ = json.JSONDecoder().raw_decode(note, note.index("{"))
            return schema if isinstance(schema, dict) else None
        except ValueError:
            return None
    if note.startswith("must be a single int"):
        return {"type": "integer"}
    if note.startswith("must be a single float"):
        return {"type": "number"}
    if note.startswith("must be True or False"):
        return {"type": "boolean"}
    if "one of: " in note:
        return {"enum": note.split("one of: ", 1)[1].rstrip().split("; ")}
    return None


def _nested_xml(name: str, system: str) -> str | None:
    found = re.search(rf"^<{name}>(?=<|\.\.\.).*</{name}>$", system, re.MULTILINE)
    return found.group() if found else None
