"""The state of the machine that measurements are taken in. Imported before anything that imports DSPy."""

from __future__ import annotations

import logging
import os
import resource
import tempfile
import warnings

__all__ = ["pin", "prepare"]


def prepare() -> None:
    """No network look-ups, no disk cache of the user's, room for thousands of connections."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    os.environ.setdefault("DSPY_CACHEDIR", tempfile.mkdtemp(prefix="dspy-parallel-bench-"))
    # DSPy 3.4 announces the end of BaseLM subclasses and of message dictionaries on every call.
    warnings.simplefilter("ignore", DeprecationWarning)
    for name in ("LiteLLM", "dspy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 16384)), hard))


def pin(server: int | None) -> str:
    """Keep the server off the client's core, where there are two or more.

    Args:
        server: The server's process id.

    Returns:
        What was done, for the reader of the figures.
    """
    if not hasattr(os, "sched_setaffinity"):
        return "not pinned"
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return "one core for client and server"
    os.sched_setaffinity(0, {cores[0]})
    if server is not None:
        os.sched_setaffinity(server, {cores[1]})
    return f"client pinned to core {cores[0]}, server to core {cores[1]}"
