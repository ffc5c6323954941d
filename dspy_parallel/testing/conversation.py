"""What a request says, whichever client wrote it, and which fields its prompt asks for."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

__all__ = ["Conversation", "Schema", "Tool", "asked_fields", "read_conversation", "schema_of_note"]

Schema = Mapping[str, Any]

_STRING: Schema = {"type": "string"}
_SENTENCE = re.compile(r"Respond with (?:the corresponding output fields|a JSON object)")
_MARKER = re.compile(r"`(\[\[ ## |<)?(\w+)(?: ## \]\]|>)?`")
_FORMS = {"[[ ## ": "chat", "<": "xml", "": "json"}
_NOTE = re.compile(r'^( *"\w+": ")?\{(\w+)\} {8}# note: the value you produce (.*)', re.MULTILINE)
_FLAT_NOTES = {"int": "integer", "float": "number"}


@dataclass(frozen=True)
class Tool:
    """A function offered to the model, with the JSON schema of its arguments."""

    name: str
    parameters: Schema


@dataclass(frozen=True)
class Conversation:
    """What a request says, independent of the client library that sent it."""

    messages: Sequence[tuple[str, str]]
    tools: Sequence[Tool]
    tool_choice: str
    """``"auto"``, ``"none"``, ``"required"`` or the name of the one tool to call."""
    tool_results: int
    response_schema: Schema | None
    """Empty where any JSON object will do."""
    digest: str

    @property
    def system(self) -> str:
        """The text of all system messages."""
        return "\n".join(text for role, text in self.messages if role in ("system", "developer"))

    @property
    def last_user(self) -> str:
        """The text of the last user message, or of the last message if no user spoke."""
        said = [text for role, text in self.messages if role == "user"] or [text for _, text in self.messages]
        return said[-1] if said else ""

    @property
    def text(self) -> str:
        """The text of all messages, in order."""
        return "\n".join(text for _, text in self.messages)


def read_conversation(path: str, body: Mapping[str, Any], model: str) -> Conversation:
    """Normalise a request body, so that equal questions have equal digests whichever client asked them."""
    messages: list[tuple[str, str]] = []
    turns = body.get("messages", [])
    if path == "/v1/embeddings":
        given = body.get("input", "")
        turns = [{"content": given if isinstance(given, str) else "\n".join(map(str, given))}]
    for turn in turns:
        messages.append((str(turn.get("role", "user")), _text(turn.get("content"))))
        if turn.get("tool_calls"):
            messages.append(("assistant", json.dumps(turn["tool_calls"], sort_keys=True)))
    hashed = sha256(model.encode())
    for role, text in messages:
        hashed.update(f"\0{role}\0{text}".encode("utf-8", "surrogatepass"))
    functions = [entry["function"] for entry in body.get("tools") or []]
    choice = body.get("tool_choice") or "auto"
    wanted = body.get("response_format") or {}
    schema = wanted.get("json_schema", {}).get("schema", {}) if str(wanted.get("type")).startswith("json") else None
    return Conversation(
        messages=messages,
        tools=[Tool(str(each["name"]), each.get("parameters") or {}) for each in functions],
        tool_choice=choice["function"]["name"] if isinstance(choice, Mapping) else str(choice),
        tool_results=sum(role == "tool" for role, _ in messages),
        response_schema=schema,
        digest=hashed.hexdigest(),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(p if isinstance(p, str) else str(p.get("text") or f"<{p.get('type')}>") for p in content)
    return "" if content is None else str(content)


def asked_fields(conversation: Conversation) -> tuple[str, dict[str, Schema]]:
    """The form of the reply, "text", "json", "chat" or "xml", and the schema of each field in it.

    DSPy's adapters end the last user message with one sentence that lists the output fields, and note the type of each
    in the system message, from DSPy 3.0 to 3.4. The schema of `response_format` goes before these notes, which fill in
    what strict schemas lack: open mappings.
    """
    user, schema = conversation.last_user, conversation.response_schema
    sentences = list(_SENTENCE.finditer(user))
    marked = _MARKER.findall(user, sentences[-1].start()) if sentences else []
    names = [name for mark, name in marked if (mark, name) != ("[[ ## ", "completed")]
    notes = _notes(conversation.system) if names else {}
    if schema is not None:
        parts = schema.get("properties", {})
        whole = {"$defs": schema.get("$defs", {})}
        names = names or list(parts) or ["answer"]
        return "json", {n: {**parts[n], **whole} if n in parts else notes.get(n, _STRING) for n in names}
    return (_FORMS[marked[0][0]] if marked else "text"), {name: notes.get(name, _STRING) for name in names}


@functools.lru_cache(1024)
def _notes(system: str) -> dict[str, Schema]:
    """The schema of each field whose type is noted; programs repeat their system messages."""
    notes: dict[str, Schema] = {}
    for in_json, name, note in _NOTE.findall(system):
        try:
            found = schema_of_note(json.loads('"' + note.rstrip(" ,")) if in_json else note)
        except ValueError:
            continue
        notes.setdefault(name, found or _STRING)
    return notes


def schema_of_note(note: str) -> Schema | None:
    """The schema that a note such as "must be a single int value" stands for."""
    if note.startswith("must adhere to the JSON schema: "):
        schema, _ = json.JSONDecoder().raw_decode(note, note.index("{"))
        return schema if isinstance(schema, dict) else None
    if flat := re.match(r"must be a single (int|float)", note):
        return {"type": _FLAT_NOTES[flat[1]]}
    if note.startswith("must be True or False"):
        return {"type": "boolean"}
    if "one of: " in note:
        return {"enum": note.split("one of: ", 1)[1].rstrip().split("; ")}
    return None
