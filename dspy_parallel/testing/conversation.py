"""One form for the four request bodies of the OpenAI API: who said what, with which tools and which format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

__all__ = ["Conversation", "Tool", "read_conversation"]


@dataclass(frozen=True)
class Tool:
    """A function offered to the model, with the JSON schema of its arguments."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Conversation:
    """What a request says, independent of the endpoint and of the client library that sent it."""

    messages: Sequence[tuple[str, str]]
    tools: Sequence[Tool]
    tool_choice: str
    """``"auto"``, ``"none"``, ``"required"`` or the name of the one tool to call."""
    tool_results: int
    response_schema: Mapping[str, Any] | None
    json_object: bool
    digest: str

    @property
    def system(self) -> str:
        """The text of all system messages."""
        return "\n".join(text for role, text in self.messages if role in ("system", "developer"))

    @property
    def last_user(self) -> str:
        """The text of the last user message, or of the last message if no user spoke."""
        for role, text in reversed(self.messages):
            if role == "user":
                return text
        return self.messages[-1][1] if self.messages else ""

    @property
    def text(self) -> str:
        """The text of all messages, in order."""
        return "\n".join(text for _, text in self.messages)


def read_conversation(path: str, body: Mapping[str, Any], model: str) -> Conversation:
    """Normalise a request body, so that equal questions have equal digests whichever client asked them."""
    messages: list[tuple[str, str]] = []
    results = 0
    if path in ("/v1/completions", "/v1/embeddings"):
        given = body.get("prompt", body.get("input", ""))
        messages.append(("user", given if isinstance(given, str) else "\n".join(str(p) for p in given)))
    else:
        if body.get("instructions"):
            messages.append(("system", str(body["instructions"])))
        turns = body.get("messages", body.get("input", []))
        for turn in [{"role": "user", "content": turns}] if isinstance(turns, str) else turns:
            kind = turn.get("type")
            if turn.get("role") == "tool" or kind == "function_call_output":
                results += 1
                messages.append(("tool", _text(turn.get("content", turn.get("output")))))
            elif kind in (None, "message"):
                messages.append((str(turn.get("role", "user")), _text(turn.get("content"))))
                if turn.get("tool_calls"):
                    messages.append(("assistant", json.dumps(turn["tool_calls"], sort_keys=True)))
    hashed = sha256(model.encode())
    for role, text in messages:
        hashed.update(f"\0{role}\0{text}".encode("utf-8", "surrogatepass"))
    schema, json_object = _response_format(body)
    return Conversation(
        messages=messages,
        tools=_tools(body),
        tool_choice=_tool_choice(body.get("tool_choice")),
        tool_results=results,
        response_schema=schema,
        json_object=json_object,
        digest=hashed.hexdigest(),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(p if isinstance(p, str) else str(p.get("text") or f"<{p.get('type')}>") for p in content)
    return "" if content is None else str(content)


def _tools(body: Mapping[str, Any]) -> list[Tool]:
    tools = []
    for entry in body.get("tools") or []:
        function = entry.get("function", entry)  # the Responses API has no inner "function"
        if isinstance(function, Mapping) and "name" in function:
            tools.append(Tool(str(function["name"]), function.get("parameters") or {}))
    return tools


def _tool_choice(choice: Any) -> str:
    if isinstance(choice, Mapping):
        return str(choice.get("function", choice).get("name", "required"))
    return {"any": "required", None: "auto"}.get(choice, str(choice))


def _response_format(body: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, bool]:
    wanted = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    kind = wanted.get("type") if isinstance(wanted, Mapping) else None
    if kind == "json_schema":
        return wanted.get("json_schema", wanted).get("schema") or {}, True
    return None, kind == "json_object"
