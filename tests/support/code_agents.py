"""Python that ends DSPy's agents which have it written: ProgramOfThought, CodeAct, RLM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dspy_parallel.testing.conversation import Conversation, asked_fields, schema_of_note
from dspy_parallel.testing.schema_values import value_for
from dspy_parallel.testing.server_options import Rule

_FINAL_FIELDS = re.compile(r"correct value mapping for (?:the field\(s\): )?((?:`\w+`(?:, )?)+)")
_SUBMIT_NAMES = re.compile(r"`SUBMIT\(([\w, ]+)\)`")


def code_rule(conversation: Conversation) -> Rule | None:
    """The rule that answers a request for code; None if it asks for none."""
    asked = asked_fields(conversation)[1]
    values: dict[str, Any] = {}
    if "generated_code" in asked:
        values["generated_code"] = _generated_code(conversation, finished="finished" in asked)
        if "finished" in asked:
            values["finished"] = True
    if "code" in asked and "SUBMIT(" in conversation.system:
        values["code"] = _submit_code(conversation)
    return Rule.read({"fields": values}) if values else None


def _generated_code(conversation: Conversation, *, finished: bool) -> str:
    if finished:  # CodeAct reads what the code prints
        return f"```python\nprint({'observed ' + conversation.digest[:8]!r})\n```"
    names = _FINAL_FIELDS.search(conversation.system)
    fields = re.findall(r"\w+", names[1]) if names else ["answer"]
    result = {name: f"{name} {conversation.digest[:8]}" for name in fields}
    submit = "final_answer" if "final_answer()" in conversation.system else "SUBMIT"
    return f"```python\nresult = {result!r}\n{submit}(result)\n```"


def _submit_code(conversation: Conversation) -> str:
    """RLM's code: hand in the outputs at once, each of the type that its note in the prompt names."""
    names = _SUBMIT_NAMES.search(conversation.system)
    outputs = [n.strip() for n in names[1].split(",")] if names else ["answer"]
    arguments = []
    for name in outputs:
        note = re.search(rf"- \{{{name}\}} +# note: the value you produce (.*)", conversation.system)
        schema: Mapping[str, Any] = {"type": "string"}
        if note:
            schema = schema_of_note(note[1]) or schema
        arguments.append(f"{name}={value_for(schema, conversation.digest, name)!r}")
    return f"```python\nSUBMIT({', '.join(arguments)})\n```"
