"""What to answer: programmed rules first, else values that parse under the adapter that wrote the prompt."""

from __future__ import annotations

import ast
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from dspy_parallel.testing.conversation import Conversation, Schema, Tool, asked_fields
from dspy_parallel.testing.schema_values import value_for
from dspy_parallel.testing.server_options import Fault, Rule

__all__ = ["Reply", "choose_fault", "choose_rule", "reply_to"]

_FINISHERS = ("finish", "submit")


@dataclass(frozen=True)
class Reply:
    """Text, or calls of tools as pairs of name and arguments."""

    content: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def choose_rule(rules: Iterable[Rule], model: str, conversation: Conversation) -> Rule | None:
    """The first rule that fits and is not used up."""
    for rule in rules:
        if (rule.times is None or rule.used < rule.times) and rule.wanted.fits(model, conversation):
            rule.used += 1
            return rule
    return None


def choose_fault(faults: Iterable[Fault], ordinal: int, model: str, conversation: Conversation) -> Fault | None:
    """The first fault that is due for a request; what is due depends on ordinals and seeds, never on time."""
    for fault in faults:
        if not fault.wanted.fits(model, conversation):
            continue
        fault.seen += 1
        if (fault.times is not None and fault.injected >= fault.times) or fault.seen % fault.every:
            continue
        if random.Random(f"{fault.seed}:{fault.kind}:{ordinal}").random() >= fault.probability:
            continue
        before = fault.failed.get(conversation.digest, 0)
        if fault.first is not None and before >= fault.first:
            continue
        fault.failed[conversation.digest] = before + 1
        fault.injected += 1
        return fault
    return None


def reply_to(conversation: Conversation, rule: Rule | None = None, words: int = 2, choice: int = 0) -> Reply:
    """The reply to a request; `choice` counts the alternatives of a request with n > 1."""
    if choice:
        # Alternatives differ as samples do, and stay a function of the request.
        mark = sha256(f"{conversation.digest}/{choice}".encode()).hexdigest()
        conversation = replace(conversation, digest=mark)
    rule = rule or Rule()
    if rule.tool_calls is not None:
        return Reply(tool_calls=[(str(c["name"]), c.get("arguments", c.get("args", {}))) for c in rule.tool_calls])
    if rule.content is not None:
        return Reply(_in_turn(rule.content, rule, choice))
    given: Mapping[str, Any] = _in_turn(rule.fields or {}, rule, choice)
    if rule.fields is None and (tool := _tool_to_call(conversation)) is not None:
        return Reply(tool_calls=[(tool.name, _arguments(tool, conversation.digest))])
    form, fields = asked_fields(conversation)
    if form == "text":
        text = value_for({"type": "string"}, conversation.digest, "reply", words)
        return Reply(json.dumps(given, ensure_ascii=False) if given else text)
    values = {name: value_for(schema, conversation.digest, name, words) for name, schema in fields.items()}
    if "next_tool_name" in fields and "next_tool_args" in fields:
        values.update(_next_tool(conversation, fields["next_tool_name"]))
    values.update({name: value for name, value in given.items() if name in values or form == "json"})
    return Reply(_render(form, values))


def _in_turn(options: Any, rule: Rule, choice: int) -> Any:
    if isinstance(options, (str, Mapping)):
        return options
    return options[(rule.used - 1 + choice) % len(options)]


def _render(form: str, values: Mapping[str, Any]) -> str:
    if form == "json":
        return json.dumps(values, ensure_ascii=False)
    if form == "chat":
        sections = [f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in values.items()]
        return "\n\n".join([*sections, "[[ ## completed ## ]]"])
    escaped = {name: _plain(value).replace("&", "&amp;").replace("<", "&lt;") for name, value in values.items()}
    return "\n\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in escaped.items())


def _plain(value: Any) -> str:
    """A value as DSPy's own demonstrations write it: strings bare, everything else as Python or JSON."""
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return "null" if value is None else str(value)


def _tool_to_call(conversation: Conversation) -> Tool | None:
    """The first tool once, then the one that ends an agent's loop; None when the turn calls for text."""
    if not conversation.tools or conversation.tool_choice == "none":
        return None
    named = [tool for tool in conversation.tools if tool.name == conversation.tool_choice]
    work = [tool for tool in conversation.tools if tool.name not in _FINISHERS]
    last = [tool for tool in conversation.tools if tool.name in _FINISHERS]
    forced = conversation.tools if conversation.tool_choice == "required" else []
    return next(iter([*named, *(last if conversation.tool_results else [*work[:1], *last]), *forced]), None)


def _next_tool(conversation: Conversation, names: Schema) -> dict[str, Any]:
    """What `dspy.ReAct` does next: its first tool once, whose arguments it describes in words, then `finish`."""
    name = "finish" if "tool_name_0" in conversation.last_user else str(names.get("enum", ["finish"])[0])
    described = re.search(rf"\b{name}\b[^\n]*\. It takes arguments (\{{.*\}})", conversation.system)
    try:
        properties = ast.literal_eval(described[1]) if described else {}
    except (ValueError, SyntaxError):
        properties = {}  # a default that is not a literal: call without arguments, the agent sees the error
    tool = Tool(name, {"properties": properties})
    return {"next_tool_name": name, "next_tool_args": _arguments(tool, conversation.digest)}


def _arguments(tool: Tool, digest: str) -> dict[str, Any]:
    """Arguments for every parameter that has no default."""
    properties: Mapping[str, Any] = tool.parameters.get("properties", {})
    whole = {"$defs": tool.parameters.get("$defs", {})}
    required = tool.parameters.get("required", [n for n, s in properties.items() if "default" not in s])
    return {n: value_for({**properties[n], **whole}, digest, n) for n in required if n in properties}
