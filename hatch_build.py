"""Puts the demo's agent into wheels.

It lives in `examples/level_agent`, where readers look for it, and `dspy-parallel demo` finds it there in a checkout.
A wheel has no `examples`, so there it becomes a subpackage. (Static `force-include` would also copy it into
editable installs, where the copy goes stale.)
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DemoAgent(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the example to standard wheels, not to editable ones."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel."""
        if version == "standard":
            build_data["force_include"]["examples/level_agent"] = "dspy_parallel/demo/level_agent"
