"""What would otherwise be measured with the first call: imports and connections."""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

import dspy

if TYPE_CHECKING:
    from ..testing import LMServer

__all__ = ["FIRST_CALL", "lms_for_first_calls"]

FIRST_CALL = "Reply with the word: ready"


def lms_for_first_calls(server: LMServer | None) -> list[Any]:
    """Import the client libraries of the LMs that there are; give an LM for each, for a first call.

    With a real provider there are none: nothing is called that the program would not call.

    Args:
        server: The loopback server, if it is the one that answers.
    """
    lms = [found for found in gc.get_objects() if isinstance(found, dspy.LM)]
    clients = {str(getattr(lm, "_engine_spec", "litellm")): lm for lm in lms if hasattr(lm, "kwargs")}
    if "litellm" in clients:
        importlib.import_module("litellm")
    return [lm.copy(cache=False) for lm in clients.values()] if server is not None else []
