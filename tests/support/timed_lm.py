"""An LM without a network, whose reply is a function of the request, and which takes virtual time to give it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import dspy

from dspy_parallel import pure
from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.server_options import Rule
from tests.support.stub_lms import LMFailure, conversation_of, response_to

__all__ = ["LMFailure", "TimedLM", "always", "one_second", "uneven"]

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
        self._seconds: list[float] = []

    def copy(self, **kwargs: Any) -> Any:
        """One that answers alike, and notes what it is asked in the same list; so it is by itself from DSPy 3.4 on."""
        copied = super().copy(**kwargs)
        copied.requests, copied._seconds = self.requests, self._seconds
        return copied

    @property
    def sequentially(self) -> float:
        """Seconds that the requests would have taken one after the other."""
        return sum(self._seconds)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self._respond(self._read(prompt, messages, kwargs), kwargs)

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        conversation = self._read(prompt, messages, kwargs)
        seconds = self.latency(conversation)
        self._seconds.append(seconds)
        await asyncio.sleep(seconds)
        return self._respond(conversation, kwargs)

    def _read(self, prompt: Any, messages: Any, kwargs: dict[str, Any]) -> Conversation:
        conversation = conversation_of("any-model", prompt, messages, kwargs)
        fails = " fails" if "raise LMFailure" in conversation.last_user else ""
        self.requests.append(f"{conversation.digest} {kwargs.get('rollout_id')}{fails}")
        return conversation

    def _respond(self, conversation: Conversation, kwargs: dict[str, Any]) -> Any:
        response = response_to(self.model, conversation, self.rule, kwargs)
        if self.twist is not None:
            for choice in response.choices:
                choice.message["content"] = self.twist(conversation, choice.message.content)
        return response
