"""A loopback LM server for tests and benchmarks; see docs/testing.md."""

from __future__ import annotations

from dspy_parallel.testing.lm_server import LMServer
from dspy_parallel.testing.lm_server_errors import LMServerError, SettingsError, WaitTimeout
from dspy_parallel.testing.server_stats import LoggedRequest, ServerStats

__all__ = ["LMServer", "LMServerError", "LoggedRequest", "ServerStats", "SettingsError", "WaitTimeout"]
