"""`diagnose()`: what in a program blocks, fails or keeps it from running in parallel, with file and line."""

from __future__ import annotations

from .diagnosis import diagnose
from .findings import Finding

__all__ = ["Finding", "diagnose"]
