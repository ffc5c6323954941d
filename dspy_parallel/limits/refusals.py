"""Which errors are refusals by a rate limit, and when the provider wants to be asked again."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

__all__ = ["is_refusal", "retry_after"]


_QUOTA_SPENT = ("insufficient_quota", "billing")
"""Sent with status 429 as well, but no waiting helps."""


def is_refusal(exc: BaseException) -> bool:
    """Whether the provider said no because of too many requests."""
    if not isinstance(exc, Exception):
        return False
    if any(type(cause).__name__ in ("LMBillingError", "BillingError") for cause in _chain(exc)):
        return False
    if not _is_rate_limit(exc):
        return False
    text = f"{getattr(exc, 'code', '')} {getattr(exc, 'provider_code', '')} {getattr(exc, 'body', '')}"
    return not any(word in text for word in _QUOTA_SPENT)


def _is_rate_limit(exc: BaseException) -> bool:
    # By name: DSPy's own class exists since 3.3, that of its engine since 3.4, and LiteLLM need not be imported.
    if any(cls.__name__ in ("LMRateLimitError", "RateLimitError") for cls in type(exc).__mro__):
        return True
    return getattr(exc, "status_code", None) == 429 or getattr(exc, "status", None) == 429


def retry_after(exc: BaseException) -> float | None:
    """Seconds to wait, if the provider has named a time."""
    for cause in _chain(exc):
        seconds = _seconds(getattr(cause, "retry_after", None))
        for source in (getattr(cause, "response", None), cause):
            if seconds is None:
                seconds = _from_headers(getattr(source, "headers", None))
        if seconds is not None:
            return seconds
    return None


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen = 0
    while exc is not None and seen < 10:
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
