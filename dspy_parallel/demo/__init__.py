"""The agent that `dspy-parallel demo` compares.

It is `examples/level_agent`, its graph `examples/level_agent_graph`. A wheel carries them in this directory
(`hatch_build.py` puts them there); in a checkout they stay where readers look for them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["agent_module"]

_PACKAGE = "dspy_parallel_demo"
"""What they are imported as: a program is the user's code, and no part of this package, whose code is not followed."""


def agent_module(name: str) -> Any:
    """A module of the agent, such as `level_agent.phase`, with LMs that are made now.

    Args:
        name: As in `examples`.
    """
    if _PACKAGE not in sys.modules:
        here = Path(__file__).resolve().parent
        package = ModuleType(_PACKAGE)
        package.__path__ = [str(here if (here / "level_agent").is_dir() else here.parents[1] / "examples")]
        sys.modules[_PACKAGE] = package
    known = sys.modules.get(f"{_PACKAGE}.{name}")
    return importlib.import_module(f"{_PACKAGE}.{name}") if known is None else importlib.reload(known)
