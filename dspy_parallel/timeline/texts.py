"""What was said in a call, for those who ask for it; never a key."""

from __future__ import annotations

from typing import Any

from ..events import OpenSpan

__all__ = ["Texts"]

MAX_CHARACTERS = 2000
"""Of each side of a call."""

_SECRETS = ("key", "token", "secret", "password", "authorization", "headers", "credential")


class Texts:
    """Keeps inputs and outputs of calls as text."""

    def keep(self, span: OpenSpan, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Add a call's text to what is known of it."""
        hidden = _secrets_of(span.owner, kwargs)
        given = {name: value for name, value in kwargs.items() if not _is_secret(name)}
        span.facts["inputs"] = _shown([*args, given] if args else given, hidden)
        span.facts["outputs"] = _shown(result, hidden)


def _is_secret(name: str) -> bool:
    return any(part in name.lower() for part in _SECRETS) and "tokens" not in name.lower()


def _secrets_of(owner: Any, kwargs: dict[str, Any]) -> list[str]:
    """Values that must not be shown, wherever they turn up: an error may quote the key that it was refused for."""
    settings = {**(getattr(owner, "kwargs", None) or {}), **kwargs}
    return [value for name, value in settings.items() if _is_secret(str(name)) and isinstance(value, str) and value]


def _shown(value: Any, hidden: list[str]) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # a user's own __repr__
        text = f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"
    for secret in hidden:
        text = text.replace(secret, "***")
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
