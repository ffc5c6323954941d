"""What to answer: programmed rules first, else values that parse under the adapter that wrote the prompt."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from dspy_parallel.testing.agents import call_tools, steer
from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.prompts import Field, Plan, plan_for
from dspy_parallel.testing.schema import value_for
from dspy_parallel.testing.settings import Rule, Settings

__all__ = ["Reply", "choose_rule", "reply_to"]


@dataclass(frozen=True)
class Reply:
    """Text, or calls of tools as pairs of name and arguments."""

    content: str = ""
    tool_calls: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


def choose_rule(rules: Iterable[Rule], ordinal: int, model: str, conversation: Conversation) -> Rule | None:
    """The first rule that fits and is not used up."""
    for rule in rules:
        if rule.times is not None and rule.used >= rule.times:
            continue
        if rule.wanted.fits(ordinal, model, conversation.last_user, conversation.text):
            rule.used += 1
            return rule
    return None


def reply_to(conversation: Conversation, rule: Rule | None, settings: Settings, choice: int = 0) -> Reply:
    """The reply to a request; `choice` counts the alternatives of a request with n > 1."""
    if choice:
        # Alternatives differ as samples do, and stay a function of the request.
        mark = sha256(f"{conversation.digest}/{choice}".encode()).hexdigest()
        conversation = replace(conversation, digest=mark)
    if rule is not None and rule.tool_calls is not None:
        return Reply(tool_calls=[(str(c["name"]), c.get("arguments", c.get("args", {}))) for c in rule.tool_calls])
    if rule is not None and rule.content is not None:
        return Reply(_in_turn(rule.content, rule, choice))
    given: Mapping[str, Any] = {}
    if rule is not None and rule.fields is not None:
        given = rule.fields if isinstance(rule.fields, Mapping) else _in_turn(rule.fields, rule, choice)
    elif calls := call_tools(conversation, settings.tool_rounds):
        return Reply(tool_calls=list(calls))
    plan = plan_for(conversation)
    if plan.form == "text" and given:
        return Reply(json.dumps(given, ensure_ascii=False))
    values = {f.name: _value(f, conversation.digest, settings.words) for f in plan.fields}
    known = steer(conversation, values, {f.name: f.schema for f in plan.fields}, settings.tool_rounds)
    values.update({name: value for name, value in given.items() if name in values or plan.form == "json"})
    return Reply(_render(plan, values, known | set(given), conversation, settings))


def _in_turn(options: Any, rule: Rule, choice: int) -> Any:
    if isinstance(options, str):
        return options
    return options[(rule.used - 1 + choice) % len(options)]


def _value(wanted: Field, digest: str, words: int) -> Any:
    return value_for(wanted.schema, digest, wanted.name, words)


def _render(
    plan: Plan, values: Mapping[str, Any], known: set[str], conversation: Conversation, settings: Settings
) -> str:
    if plan.form == "json":
        return json.dumps(values, ensure_ascii=False)
    if plan.form == "chat":
        sections = [f"[[ ## {name} ## ]]\n{_plain(value)}" for name, value in values.items()]
        return "\n\n".join([*sections, "[[ ## completed ## ]]"])
    if plan.form == "xml":
        return "\n\n".join(_xml_field(f, values[f.name], f.name in known) for f in plan.fields)
    return str(value_for({"type": "string"}, conversation.digest, "reply", settings.words))


def _plain(value: Any) -> str:
    """A value as DSPy's own demonstrations write it: strings bare, everything else as Python or JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return "null" if value is None else str(value)


def _xml_field(wanted: Field, value: Any, is_known: bool) -> str:
    if wanted.template is not None and not is_known:
        return _fill(wanted.template, wanted.name)
    if wanted.template is not None and isinstance(value, (dict, list)):
        return _xml(wanted.name, value)
    return f"<{wanted.name}>\n{_escape(_plain(value))}\n</{wanted.name}>"


def _fill(template: str, name: str) -> str:
    """Fill a nested template, which names no types: "1" is valid for numbers, strings and booleans alike."""
    if template == f"<{name}>...</{name}>":
        return f"<{name}></{name}>"  # an object without known keys
    return template.replace(">...<", ">1<")


def _xml(tag: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"<{tag}>{''.join(_xml(str(k), v) for k, v in value.items())}</{tag}>"
    if isinstance(value, list):
        return f"<{tag}>{''.join(_xml('item', v) for v in value)}</{tag}>"
    return f"<{tag}>{'' if value is None else _escape(str(value))}</{tag}>"


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
