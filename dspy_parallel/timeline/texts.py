"""What was said in a call, for those who ask for it; never a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..events import OpenSpan

__all__ = ["Texts"]

MAX_CHARACTERS = 2000
"""Of each side of a call."""

_SECRETS = {"key", "apikey", "token", "secret", "password", "authorization", "headers", "credential", "credentials"}
"""Words in names of arguments and settings, as in `api_key` or `extra_headers`."""
SHORT_CHARACTERS = 6
"""No secret is as short; a shorter value is not looked for in other texts."""


class Texts:
    """Keeps inputs and outputs of calls as text.

    A key that one call was made with is hidden in those around it, too: an error may quote it. These end later, so
    that it is known by then.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def keep(self, span: OpenSpan, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Add a call's text to what is known of it."""
        self._secrets.update(_secrets_in([getattr(span.owner, "kwargs", None), args, kwargs, result]))
        given = {name: value for name, value in kwargs.items() if not _is_secret(name)}
        hidden = sorted((secret for secret in self._secrets if len(secret) >= SHORT_CHARACTERS), key=len, reverse=True)
        span.facts["inputs"] = _shown([*args, given] if args else given, hidden)
        span.facts["outputs"] = _shown(result, hidden)


def _is_secret(name: str) -> bool:
    return not _SECRETS.isdisjoint(name.lower().replace("-", "_").split("_"))


def _secrets_in(value: Any, is_secret: bool = False, depth: int = 6) -> Iterator[str]:
    """Texts that must not be shown, wherever they turn up: what has such a name, and what is in it, as in headers."""
    if isinstance(value, str):
        yield from (value, repr(value)[1:-1]) if is_secret else ()
    elif isinstance(value, dict) and depth:
        for name, item in list(value.items()):
            yield from _secrets_in(item, is_secret or _is_secret(str(name)), depth - 1)
    elif isinstance(value, (list, tuple)) and depth:
        for item in list(value):
            yield from _secrets_in(item, is_secret, depth - 1)


def _shown(value: Any, hidden: list[str]) -> str:
    try:
        text = value if isinstance(value, str) else repr(value)
    except Exception as error:  # a user's own __repr__
        text = f"<{type(value).__name__}, which cannot be shown: {type(error).__name__}>"
    for secret in hidden:
        text = text.replace(secret, "***")
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"
