"""A loopback LM server for tests and benchmarks; see docs/testing.md."""

from __future__ import annotations

from dspy_parallel.testing.errors import LMServerError, SettingsError, WaitTimeout
from dspy_parallel.testing.records import LoggedRequest, ServerStats
from dspy_parallel.testing.server import LMServer

__all__ = ["LMServer", "LMServerError", "LoggedRequest", "ServerStats", "SettingsError", "WaitTimeout"]
