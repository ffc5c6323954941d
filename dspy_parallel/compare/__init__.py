"""`dspy-parallel compare`: somebody's own program as it is and parallelised, side by side."""

from __future__ import annotations

__all__: list[str] = []
