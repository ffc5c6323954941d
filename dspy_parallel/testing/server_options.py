"""How the server behaves: plain data, checked when it is set, so that a typing error is found at its source."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fnmatch import fnmatchcase
from typing import Any

from dspy_parallel.testing.conversation import Conversation
from dspy_parallel.testing.lm_server_errors import SettingsError

__all__ = ["FAULT_KINDS", "STATUS_FAULTS", "Fault", "Rule", "Settings"]

STATUS_FAULTS = {
    "400": (400, "invalid_request_error", None, "Bad request (injected)."),
    "401": (401, "authentication_error", "invalid_api_key", "Incorrect API key provided (injected)."),
    "429": (429, "rate_limit_error", "rate_limit_exceeded", "Rate limit reached (injected)."),
    "500": (500, "server_error", None, "The server had an error (injected)."),
    "503": (503, "server_error", None, "The service is overloaded (injected)."),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    ),
}
"""Status, type, code and message of the error replies that OpenAI sends."""
FAULT_KINDS = (*STATUS_FAULTS, "reset", "stall", "truncated", "malformed_json", "wrong_content")
_SELECTORS = {"model", "match", "request"}


@dataclass(frozen=True)
class Wanted:
    """Which requests a rule or a fault is meant for; everything that is given must hold."""

    model: str | None = None
    """A shell pattern for the model's name."""
    match: re.Pattern[str] | None = None
    """Searched in the last user message."""
    request: re.Pattern[str] | None = None
    """Searched in the text of all messages."""

    def fits(self, model: str, conversation: Conversation) -> bool:
        """Whether a request is meant."""
        return (
            (self.model is None or fnmatchcase(model, self.model))
            and (self.match is None or self.match.search(conversation.last_user) is not None)
            and (self.request is None or self.request.search(conversation.text) is not None)
        )


@dataclass
class Fault:
    """One way to fail, and when: for every k-th request meant, with a probability, or for a number of times."""

    kind: str
    wanted: Wanted = field(default_factory=Wanted)
    probability: float = 1.0
    seed: int = 0
    every: int = 1
    times: int | None = None
    first: int | None = None
    """How often each distinct request fails before it gets through; None is every time."""
    retry_after: float | None = None
    message: str | None = None
    seen: int = 0
    injected: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    """How often each distinct request has failed, by digest."""

    @classmethod
    def read(cls, spec: str | Mapping[str, Any]) -> Fault:
        """Check one fault given as a kind or as a mapping."""
        data = {"kind": spec} if isinstance(spec, (str, int)) else dict(spec)
        data["kind"] = str(data.get("kind"))
        if data["kind"] not in FAULT_KINDS:
            raise SettingsError(f"Unknown fault kind {data['kind']!r}. Choose one of: {', '.join(FAULT_KINDS)}.")
        return cls(wanted=_wanted(data), **_known(cls, data, "fault"))


@dataclass
class Rule:
    """A programmed reply: which requests it is for, and what they get."""

    wanted: Wanted = field(default_factory=Wanted)
    content: str | Sequence[str] | None = None
    """Literal text; of several, one after another, from the first again after the last."""
    fields: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    """Values of output fields, rendered in the format that the prompt asks for; the others are generated."""
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    latency: float | None = None
    fault: Fault | None = None
    times: int | None = None
    used: int = 0

    @classmethod
    def read(cls, spec: Mapping[str, Any]) -> Rule:
        """Check one rule."""
        data = dict(spec)
        wanted, fault = _wanted(data), data.pop("fault", None)
        return cls(wanted=wanted, fault=None if fault is None else Fault.read(fault), **_known(cls, data, "rule"))


@dataclass
class Settings:
    """Everything that `LMServer(...)` and `configure(...)` accept; see docs/testing.md for the meaning of each."""

    latency: Any = 0.0
    replies: list[Rule] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    max_concurrency: int | None = None
    requests_per_minute: int | None = None
    rate_window: float = 60.0
    retry_after: float | None = None
    hold: bool = False
    gate: int | None = None
    max_hold: float = 60.0
    inter_token_delay: float | None = None
    words: int = 2
    models: list[str] = field(default_factory=lambda: ["test-model"])
    log: bool = True
    log_bodies: bool = False

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set the given options, or none of them if one is wrong."""
        checked = _known(type(self), dict(changes), "option")
        if "replies" in checked:
            checked["replies"] = _rules(checked["replies"])
        if "faults" in checked:
            checked["faults"] = _faults(checked["faults"])
        if "latency" in checked:
            _check_latency(checked["latency"])
        for name, value in checked.items():
            setattr(self, name, value)


def _rules(replies: Any) -> list[Rule]:
    """Rules from a list, from one rule, or from a mapping of patterns for the last user message to texts or rules."""
    if not isinstance(replies, Mapping):
        return [Rule.read(rule) for rule in replies or ()]
    if replies and set(replies) <= {f.name for f in fields(Rule)} | _SELECTORS:
        return [Rule.read(replies)]
    return [
        Rule.read({"match": pattern, **(reply if isinstance(reply, Mapping) else {"content": reply})})
        for pattern, reply in replies.items()
    ]


def _faults(faults: Any) -> list[Fault]:
    """Faults from a list, from one kind, or from a mapping of kinds to probabilities or options."""
    if isinstance(faults, str) or (isinstance(faults, Mapping) and "kind" in faults):
        return [Fault.read(faults)]
    if not isinstance(faults, Mapping):
        return [Fault.read(fault) for fault in faults or ()]
    return [
        Fault.read({"kind": kind, **(how if isinstance(how, Mapping) else {"probability": how})})
        for kind, how in faults.items()
    ]


def _check_latency(latency: Any) -> None:
    if isinstance(latency, (Mapping, list, tuple)):
        values = list(latency.values() if isinstance(latency, Mapping) else latency)
        if not values:
            raise SettingsError("latency is an empty list; give at least one number of seconds.")
        for value in values:
            _check_latency(value)
    elif isinstance(latency, bool) or not isinstance(latency, (int, float)) or latency < 0:
        raise SettingsError(f"latency is {latency!r}; give seconds, a list of them, or a mapping of models to these.")


def _wanted(spec: dict[str, Any]) -> Wanted:
    """Remove the selecting keys from a rule or fault and compile them."""
    given = {name: spec.pop(name, None) for name in _SELECTORS}
    return Wanted(given["model"], _pattern(given["match"]), _pattern(given["request"]))


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text, re.DOTALL)
    except re.error as error:
        raise SettingsError(f"{text!r} is not a regular expression: {error}.") from error


def _known(cls: type, data: dict[str, Any], what: str) -> dict[str, Any]:
    names = {f.name for f in fields(cls)} - {"wanted", "seen", "injected", "failed", "used"}
    if unknown := sorted(set(data) - names):
        raise SettingsError(f"Unknown {what} {', '.join(map(repr, unknown))}. Known: {', '.join(sorted(names))}.")
    return data
