"""Which errors are refusals by a rate limit, and when the provider wants to be asked again."""

from __future__ import annotations

import sys
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
    body: Any = getattr(exc, "body", None)
    named = [getattr(exc, name, None) for name in _CODES]
    for found in (body, body.get("error") if isinstance(body, dict) else None):
        if isinstance(found, dict):
            named += [cast("dict[str, object]", found).get(name) for name in _CODES]
    return {code for code in named if isinstance(code, str)}


_CODES = ("code", "type", "provider_code")


def _is_rate_limit(exc: BaseException) -> bool:
    # By name: DSPy's own class exists since 3.3, that of its engine since 3.4, and LiteLLM need not be imported.
    if any(cls.__name__ in ("LMRateLimitError", "RateLimitError") for cls in type(exc).__mro__):
        return True
    return getattr(exc, "status_code", None) == 429 or getattr(exc, "status", None) == 429


def retry_after(exc: BaseException, handled: BaseException | None = None) -> float | None:
    """Seconds to wait, if the provider has named a time that is not over; arguments as for `is_refusal`."""
    for cause in _chain(exc, handled):
        seconds = _seconds(getattr(cause, "retry_after", None))
        for source in (getattr(cause, "response", None), cause):
            if seconds is None:
                seconds = _from_headers(getattr(source, "headers", None))
        if seconds:
            return seconds
    return None


def copy_of(refusal: BaseException) -> BaseException:
    """The same error for another call: one object would collect the tracebacks of all that raise it."""
    cls = type(refusal)
    try:
        copied: BaseException = cls.__new__(cls, *refusal.args)
        copied.__dict__.update(refusal.__dict__)
    except (TypeError, AttributeError):  # a class with a constructor of its own in C
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
    items = headers.items() if hasattr(headers, "items") else ()
    named = {str(name).lower(): value for name, value in items}
    milliseconds = _seconds(named.get("retry-after-ms"))
    return milliseconds / 1000 if milliseconds is not None else _seconds(named.get("retry-after"))


def _seconds(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            seconds = parsedate_to_datetime(str(value)).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
        return max(0.0, seconds)
    return seconds if 0 <= seconds < sys.maxsize else None
