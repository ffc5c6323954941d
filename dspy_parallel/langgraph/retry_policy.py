"""Which errors of DSPy and LiteLLM are worth another attempt of a whole node."""

from __future__ import annotations

import asyncio

from langgraph._internal._retry import default_retry_on

__all__ = ["retry_on"]

_RETRIED = frozenset({"LMTransportError", "LMTimeoutError", "LMRateLimitError", "LMServerError", "LMLockTimeoutError"})
_FINAL = frozenset({"ContextWindowExceededError", "LMBillingError", "BudgetExceededError", "LMError"})
_STATUSES = frozenset({408, 409, 425, 429})


def retry_on(exc: Exception) -> bool:
    """Whether a node that failed with this error should be tried again; for LangGraph's `RetryPolicy`.

    Yes for rate limits, timeouts, failed connections and errors of the server; no for what will fail again: missing
    or refused credentials, invalid requests, a context window that is too small, an exhausted budget. Anything that
    does not come from a language model is decided as LangGraph decides it by default.

    DSPy repeats requests by itself (`num_retries`, three times by default), and each attempt of the node does so
    again. With a policy on the node, `dspy.LM(..., num_retries=0)` leaves one layer.

    Args:
        exc: What the node raised.

    Returns:
        Whether to try again.

    Example:
        ```python
        from langgraph.types import RetryPolicy
        from dspy_parallel.langgraph import retry_on

        policy = RetryPolicy(max_attempts=3, retry_on=retry_on)
        assert policy.retry_on(ConnectionError())
        ```
    """
    names = {cls.__name__ for cls in type(exc).__mro__}
    # Until Python 3.11, asyncio's is no builtin one, which LangGraph takes for one of the file system's.
    if names & _RETRIED or isinstance(exc, (TimeoutError, asyncio.TimeoutError)):
        return True
    if names & _FINAL:
        return False
    status = getattr(exc, "status_code", None) or getattr(exc, "status", None)
    if isinstance(status, int):
        return status in _STATUSES or status >= 500
    return default_retry_on(exc)
