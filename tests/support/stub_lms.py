"""LMs without a network, whose reply is a function of the request, in every form in which users bring one."""

from __future__ import annotations

import asyncio
import inspect
import json
from typing import Any

import dspy
from dspy.clients import base_lm
from dspy.utils import DummyLM

from dspy_parallel.testing.completions import reply_to
from dspy_parallel.testing.conversation import Conversation, read_conversation
from dspy_parallel.testing.openai_bodies import chat_completion
from dspy_parallel.testing.server_options import Rule
from tests.support.code_agents import code_rule

_COUNTS_USAGE = "usage_tracker" in inspect.getsource(base_lm)
"""Before DSPy 3.3 only `dspy.LM` itself counts usage."""


class LMFailure(Exception):
    """What a stub raises; with two arguments, to see that both arrive."""


class Record(dict[str, Any]):
    """A JSON object with attributes, as clients of OpenAI's API return it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def conversation_of(model: str, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Conversation:
    """What a call says, to be answered as `dspy_parallel.testing.LMServer` does."""
    messages = messages or [{"role": "user", "content": prompt}]
    options = {name: value for name, value in kwargs.items() if name in ("tools", "tool_choice", "response_format")}
    if isinstance(options.get("response_format"), type):
        schema = options["response_format"].model_json_schema()
        options["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    return read_conversation("/v1/chat/completions", {"messages": messages, **options}, model)


def response_to(model: str, conversation: Conversation, rule: Rule | None, kwargs: dict[str, Any]) -> Any:
    """The reply in the form of OpenAI's client, and its usage counted."""
    if "raise LMFailure" in conversation.last_user:
        raise LMFailure("the stub was told to fail", len(conversation.messages))
    replies = [reply_to(conversation, rule, choice=choice) for choice in range(kwargs.get("n") or 1)]
    body = chat_completion(model, conversation, replies)
    response = json.loads(json.dumps(body), object_hook=Record)
    if not _COUNTS_USAGE and dspy.settings.usage_tracker:
        dspy.settings.usage_tracker.add_usage(model, dict(response.usage))
    return response


class SyncLM(dspy.BaseLM):
    """An LM that knows no async: it has `forward` only."""

    def __init__(self, label: str = "sync") -> None:
        super().__init__(model=f"stub/{label}", cache=False)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self._respond(prompt, messages, kwargs)

    def _respond(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Any:
        messages = messages or [{"role": "user", "content": prompt}]
        if kwargs.get("rollout_id") is not None:
            messages = [*messages, {"role": "system", "content": f"rollout {kwargs['rollout_id']}"}]
        conversation = conversation_of(self.model, prompt, messages, kwargs)
        return response_to(self.model, conversation, code_rule(conversation), kwargs)


class TwinLM(SyncLM):
    """An LM with both; the async side takes some turns of the event loop."""

    def __init__(self, label: str = "twin") -> None:
        super().__init__(label)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        try:
            return self._respond(prompt, messages, kwargs)
        finally:
            await asyncio.sleep(0)


class OwnCallLM(TwinLM):
    """An LM whose behaviour is in `__call__`, which its inherited `acall` knows nothing of."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(*args, **{**kwargs, "rollout_id": 77, "temperature": 1.0})


def dummy_lm(label: str = "dummy", **_: Any) -> Any:
    """DSPy's own stub, whose answers depend on the order of calls."""
    answers = ({"answer": f"{label} {n}", "reasoning": "because", "text": f"t{n}"} for n in range(1000))
    lm = DummyLM([])
    lm.answers = iter(answers)
    lm.model = f"stub/{label}"
    return lm


MAKERS: dict[str, Any] = {"twin": TwinLM, "sync": SyncLM, "own_call": OwnCallLM, "dummy": dummy_lm}
NEEDS_THREAD = {"sync", "own_call"}
"""LMs that the bridge can only call in a worker thread."""
