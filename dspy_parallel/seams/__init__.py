"""Where DSPy, and what its users call, blocks a thread: one table, patched and unpatched as a whole.

Importing this package fills the table; nothing is patched before `install()`.
"""

from __future__ import annotations

from . import attributes, caching, executors, http, interpreters, lms, retrieval, stdlib, streaming, tools  # noqa: F401
from .table import Seam, add_seam, install, uninstall
from .tools import loop_safe

__all__ = ["Seam", "add_seam", "install", "loop_safe", "uninstall"]
