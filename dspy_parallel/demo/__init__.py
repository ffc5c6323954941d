"""What `dspy-parallel demo` runs and shows.

The agent itself is `examples/level_agent`. A wheel carries it as the subpackage `level_agent` (`hatch_build.py` puts
it there); in a checkout it stays where readers look for it, and is found through this package's path.
"""

from __future__ import annotations

from pathlib import Path

__all__: list[str] = []

_examples = Path(__file__).resolve().parents[2] / "examples"
if not Path(__file__).with_name("level_agent").is_dir() and (_examples / "level_agent").is_dir():
    __path__.append(str(_examples))
