"""An LM without a network, whose reply is a function of the request, and which takes virtual time to give it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import dspy
from dspy.clients import base_lm

from dspy_parallel import pure
from dspy_parallel.testing.conversation import Conversation, read_conversation
from dspy_parallel.testing.replies import reply_to
from dspy_parallel.testing.settings import Rule, Settings
from dspy_parallel.testing.wire import chat_completion
from tests.modules.lms import LMFailure, Record

__all__ = ["LMFailure", "TimedLM", "always", "one_second", "uneven"]

_COUNTS_USAGE = "usage_tracker" in inspect.getsource(base_lm)
"""Before DSPy 3.3 only `dspy.LM` itself counts usage."""

Latency = Callable[[Conversation], float]
Twist = Callable[[Conversation, str], str]


def always(seconds: float) -> Latency:
    """The same for every request."""
    return lambda _: seconds


one_second = always(1.0)


def uneven(conversation: Conversation) -> float:
    """One to four seconds, by the request."""
    return 1.0 + int(conversation.digest[:4], 16) % 4


@pure
class TimedLM(dspy.BaseLM):
    """Answers as `dspy_parallel.testing.LMServer` does.

    Args:
        answers: Values of output fields; the others are made up from the request.
        latency: Seconds for each request, on the loop's clock.
        twist: Changes a reply's text, to one that does not parse for instance.
    """

    def __init__(
        self, answers: Mapping[str, Any] | None = None, latency: Latency = one_second, twist: Twist | None = None
    ) -> None:
        super().__init__(model="stub/timed", cache=False)
        self.rule = Rule.read({"fields": dict(answers)}) if answers else None
        self.latency = latency
        self.twist = twist
        self.requests: list[str] = []
        """Digests of what was asked."""
        self.sequentially = 0.0
        """Seconds that the requests would have taken one after the other."""

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self._respond(self._read(prompt, messages, kwargs), kwargs)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        conversation = self._read(prompt, messages, kwargs)
        seconds = self.latency(conversation)
        self.sequentially += seconds
        await asyncio.sleep(seconds)
        return self._respond(conversation, kwargs)

    def _read(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Conversation:
        messages = messages or [{"role": "user", "content": prompt}]
        options = {name: value for name, value in kwargs.items() if name in ("tools", "tool_choice", "response_format")}
        if isinstance(options.get("response_format"), type):
            schema = options["response_format"].model_json_schema()
            options["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
        conversation = read_conversation("/v1/chat/completions", {"messages": messages, **options}, "any-model")
        self.requests.append(f"{conversation.digest} {kwargs.get('rollout_id')}")
        return conversation

    def _respond(self, conversation: Conversation, kwargs: dict[str, Any]) -> Any:
        if "raise LMFailure" in conversation.last_user:
            raise LMFailure("the LM was told to fail", len(conversation.messages))
        replies = [reply_to(conversation, self.rule, Settings(), choice) for choice in range(kwargs.get("n") or 1)]
        body = chat_completion(self.model, conversation, replies)
        if self.twist is not None:
            for choice in body["choices"]:
                choice["message"]["content"] = self.twist(conversation, choice["message"]["content"])
        response = json.loads(json.dumps(body), object_hook=Record)
        if not _COUNTS_USAGE and dspy.settings.usage_tracker:
            dspy.settings.usage_tracker.add_usage(self.model, dict(response.usage))
        return response
