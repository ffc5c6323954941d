"""Errors of the LM test server."""

from __future__ import annotations

from dspy_parallel.errors import DSPyParallelError

__all__ = ["LMServerError", "SettingsError", "WaitTimeout"]


class LMServerError(DSPyParallelError, RuntimeError):
    """The server's process could not be started, or is gone."""


class SettingsError(DSPyParallelError, ValueError):
    """An option, rule or fault that the server does not know."""


class WaitTimeout(DSPyParallelError, TimeoutError):
    """A statistic did not reach the awaited value in time."""
