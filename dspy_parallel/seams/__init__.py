"""Where DSPy, and what its users call, blocks a thread: one table, patched and unpatched as a whole.

Importing this package fills the table; nothing is patched before `install()`.
"""

# pyright: reportUnusedImport=false
from __future__ import annotations

from . import (  # noqa: F401
    attributes,
    branches,
    caching,
    connections,
    event_loops,
    executors,
    histories,
    http,
    interpreters,
    langchain,
    lms,
    parallelizer,
    retrieval,
    stdlib,
    streamify,
    streaming,
    swallowing,
    tools,
    tracebacks,
)
from .table import add_seam, install, uninstall
from .tools import loop_safe

__all__ = ["add_seam", "install", "loop_safe", "uninstall"]
