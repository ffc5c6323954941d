"""Which errors are refusals by a rate limit, and when the provider wants to be asked again.

Errors are other people's objects, and headers are whatever a provider sends: nothing here raises for them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, cast

__all__ = ["copy_of", "is_refusal", "retry_after"]

_QUOTA_SPENT = frozenset(
    {"insufficient_quota", "billing_error", "billing_hard_limit_reached", "billing_not_active", "credits_exhausted"}
)
"""Codes and types that are sent with status 429 as well, but no waiting helps.

Only these: providers mention billing in the text of every refusal.
"""


def is_refusal(exc: BaseException, handled: BaseException | None = None) -> bool:
    """Whether the provider said no because of too many requests.

    Args:
        exc: The error.
        handled: What was being handled when the request was made, and has nothing to do with it.
    """
    if not isinstance(exc, Exception) or not _is_rate_limit(exc):
        return False
    return not any(
        type(cause).__name__ in ("LMBillingError", "BillingError") or _QUOTA_SPENT & _codes(cause)
        for cause in _chain(exc, handled)
    )


def _codes(exc: BaseException) -> set[object]:
    body = _attribute(exc, "body")
    named = [_attribute(exc, name) for name in _CODES]
    for found in (body, body.get("error") if isinstance(body, dict) else None):
        if isinstance(found, dict):
            named += [cast("dict[str, object]", found).get(name) for name in _CODES]
    return {code for code in named if isinstance(code, str)}


_CODES = ("code", "type", "provider_code")


def _is_rate_limit(exc: BaseException) -> bool:
    # By name: DSPy's own class exists since 3.3, that of its engine since 3.4, and LiteLLM need not be imported.
    if any(cls.__name__ in ("LMRateLimitError", "RateLimitError") for cls in type(exc).__mro__):
        return True
    return 429 in [each for each in (_attribute(exc, "status_code"), _attribute(exc, "status")) if type(each) is int]


def _attribute(thing: Any, name: str) -> Any:
    """None also where a property raises, as httpx's do for what has not been set."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def retry_after(exc: BaseException, handled: BaseException | None = None) -> float | None:
    """Seconds to wait, if the provider has named a time that is not over; arguments as for `is_refusal`."""
    for cause in _chain(exc, handled):
        seconds = _seconds(_attribute(cause, "retry_after"))
        for source in (_attribute(cause, "response"), cause):
            if seconds is None:
                seconds = _from_headers(_attribute(source, "headers"))
        if seconds:
            return seconds
    return None


def copy_of(refusal: BaseException) -> BaseException:
    """The same error for another call: one object would collect the tracebacks of all that raise it."""
    cls = type(refusal)
    try:
        copied: BaseException = cls.__new__(cls, *refusal.args)
        copied.__dict__.update(refusal.__dict__)
    except Exception:  # a class with a constructor of its own in C, or of another kind
        return refusal
    copied.__cause__ = refusal.__cause__
    return copied


def _chain(exc: BaseException | None, handled: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while exc is not None and exc is not handled and seen < 10:
        yield exc
        exc = exc.__cause__ or exc.__context__
        seen += 1


def _from_headers(headers: Any) -> float | None:
    try:
        named = {_text(name).lower(): value for name, value in headers.items()}
    except Exception:  # none, or no mapping
        return None
    milliseconds = _seconds(named.get("retry-after-ms"))
    return milliseconds / 1000 if milliseconds is not None else _seconds(named.get("retry-after"))


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _seconds(value: Any) -> float | None:
    """A number of seconds, or a date as HTTP has it; None for whatever else."""
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except Exception:
        try:
            # Raises what it likes: OverflowError for an offset that is none, IndexError, TypeError ...
            seconds = max(0.0, parsedate_to_datetime(_text(value)).timestamp() - time.time())
        except Exception:
            return None
    return min(seconds, LONGEST) if seconds >= 0 and seconds != float("inf") else None


LONGEST = 1e9
"""A time that no wait of Python's is too short for. Nobody waits for longer than `give_up_after` anyway."""
