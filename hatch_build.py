"""Puts the demo's agent and its graph into wheels.

They live in `examples/`, where readers look for them, and `dspy-parallel demo` finds them there in a checkout. A wheel
has no `examples`, so there they become subpackages. (Static `force-include` would also copy it into
editable installs, where the copy goes stale.)
"""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class DemoAgent(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the examples to standard wheels, not to editable ones."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds a wheel."""
        if version == "standard":
            for example in ("level_agent", "level_agent_graph"):
                build_data["force_include"][f"examples/{example}"] = f"dspy_parallel/demo/{example}"
