"""How many calls an LM gets at a time and per minute, and what becomes of those that it refuses."""

from __future__ import annotations

from . import interception as _interception  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .assignment import Limit, limit, limit_all

__all__ = ["Limit", "limit", "limit_all"]
