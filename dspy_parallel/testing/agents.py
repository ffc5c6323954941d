"""Fields that steer DSPy's agents, answered so that every agent comes to an end.

ReAct calls its tools `rounds` times and then finishes; ProgramOfThought, CodeAct and RLM get Python that runs.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dspy_parallel.testing.conversation import Conversation, Tool
from dspy_parallel.testing.prompts import schema_of_note
from dspy_parallel.testing.schema import value_for

__all__ = ["call_tools", "steer"]

_FINISHERS = ("finish", "submit")
_TOOL_LINE = re.compile(
    r" *(?:\(\d+\) )?(\w+)(?:, whose description is <desc>.*?</desc>)?\. It takes arguments (\{.*\})\.?"
)
_ROUND = re.compile(r"\btool_name_(\d+)\b")
_FINAL_FIELDS = re.compile(r"correct value mapping for (?:the field\(s\): )?((?:`\w+`(?:, )?)+)")
_SUBMIT_NAMES = re.compile(r"`SUBMIT\(([\w, ]+)\)`")


def steer(conversation: Conversation, values: dict[str, Any], schemas: Mapping[str, Any], rounds: int) -> set[str]:
    """Replace, in place, those values that an agent acts on, and name them."""
    before = dict(values)
    if "next_tool_name" in values and "next_tool_args" in values:
        _react(conversation, values, schemas["next_tool_name"], rounds)
    if "generated_code" in values:
        values["generated_code"] = _generated_code(conversation, finished="finished" in values)
        if "finished" in values:
            values["finished"] = True
    if "code" in values and "SUBMIT(" in conversation.system:
        values["code"] = _submit_code(conversation, values, schemas)
    if "tool_calls" in values and isinstance(values["tool_calls"], Mapping):
        tools = _described_tools(conversation.last_user)
        past = conversation.tool_results + conversation.text.count('"tool_call_results"')
        if tools and (chosen := _choose(tools, past, rounds)):
            arguments = _arguments(chosen, conversation.digest)
            values["tool_calls"] = {"tool_calls": [{"name": chosen.name, "args": arguments}]}
    return {name for name, value in values.items() if value is not before[name]}


def call_tools(conversation: Conversation, rounds: int) -> list[tuple[str, dict[str, Any]]]:
    """The native tool calls to reply with; empty when the turn calls for text."""
    tools, choice = conversation.tools, conversation.tool_choice
    if not tools or choice == "none":
        return []
    forced = next((t for t in tools if t.name == choice), None)
    if forced is None:
        forced = _choose(tools, conversation.tool_results, rounds)
        if forced is None and choice == "required":
            forced = tools[0]
    return [] if forced is None else [(forced.name, _arguments(forced, conversation.digest))]


def _choose(tools: Sequence[Tool], past: int, rounds: int) -> Tool | None:
    """The tools in turn, then the one that ends the agent's loop, if it has one."""
    work = [t for t in tools if t.name not in _FINISHERS]
    if work and past < rounds:
        return work[past % len(work)]
    return next((t for t in tools if t.name in _FINISHERS), None)


def _arguments(tool: Tool, digest: str) -> dict[str, Any]:
    """Arguments for every parameter that has no default."""
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    definitions = tool.parameters.get("$defs", {})
    required = tool.parameters.get("required", [n for n, s in properties.items() if "default" not in s])
    return {n: value_for({**properties[n], "$defs": definitions}, digest, n) for n in required if n in properties}


def _described_tools(text: str) -> list[Tool]:
    """The tools that ReAct's instructions and inputs of type `dspy.Tool` describe in words."""
    lines: list[str] = []
    for line in text.splitlines():
        listed = _json_list(line) if line.startswith('["') else None
        lines.extend([line] if listed is None else map(str, listed))
    tools = []
    for found in filter(None, map(_TOOL_LINE.match, lines)):
        try:
            properties = ast.literal_eval(found[2])
        except (ValueError, SyntaxError):
            properties = {}  # a default that is not a literal: call without arguments, the agent sees the error
        tools.append(Tool(found[1], {"properties": properties if isinstance(properties, dict) else {}}))
    return tools


def _json_list(line: str) -> list[Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def _react(conversation: Conversation, values: dict[str, Any], schema: Mapping[str, Any], rounds: int) -> None:
    names = [str(n) for n in schema.get("enum", [])]
    described = {t.name: t for t in _described_tools(conversation.system)}
    tools = [described.get(n, Tool(n, {})) for n in names]
    past = len({int(n) for n in _ROUND.findall(conversation.last_user)})
    chosen = _choose(tools, past, rounds) or (tools[0] if tools else Tool("finish", {}))
    values["next_tool_name"] = chosen.name
    values["next_tool_args"] = _arguments(chosen, conversation.digest)


def _generated_code(conversation: Conversation, *, finished: bool) -> str:
    if finished:  # CodeAct reads what the code prints
        return f"```python\nprint({'observed ' + conversation.digest[:8]!r})\n```"
    names = _FINAL_FIELDS.search(conversation.system)
    fields = re.findall(r"\w+", names[1]) if names else ["answer"]
    result = {name: f"{name} {conversation.digest[:8]}" for name in fields}
    submit = "final_answer" if "final_answer()" in conversation.system else "SUBMIT"
    return f"```python\nresult = {result!r}\n{submit}(result)\n```"


def _submit_code(conversation: Conversation, values: dict[str, Any], schemas: Mapping[str, Any]) -> str:
    """RLM's code: hand in the outputs at once, each of the type that its note in the prompt names."""
    names = _SUBMIT_NAMES.search(conversation.system)
    outputs = [n.strip() for n in names[1].split(",")] if names else ["answer"]
    arguments = []
    for name in outputs:
        note = re.search(rf"- \{{{name}\}} +# note: the value you produce (.*)", conversation.system)
        schema: Mapping[str, Any] = schemas.get(name, {"type": "string"})
        if note:
            schema = schema_of_note(note[1]) or schema
        arguments.append(f"{name}={value_for(schema, conversation.digest, name)!r}")
    return f"```python\nSUBMIT({', '.join(arguments)})\n```"
