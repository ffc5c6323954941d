"""Where DSPy, and what its users call, blocks a thread: one table, patched and unpatched as a whole.

Importing this package fills the table; nothing is patched before `install()`.
"""

# pyright: reportUnusedImport=false
from __future__ import annotations

from . import (  # noqa: F401
    cache_keys,
    call_spans,
    code_interpreters,
    connections,
    event_loops,
    exception_tunnel,
    forked_settings,
    forward_lookup,
    http_clients,
    langchain,
    lms,
    loop_executor,
    own_histories,
    retrievers,
    status_messages,
    stdlib,
    streamify,
    thread_waits,
    tools,
    tqdm_instances,
    tracebacks,
)
from .table import add_seam, install, uninstall
from .tools import loop_safe

__all__ = ["add_seam", "install", "loop_safe", "uninstall"]
