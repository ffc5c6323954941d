"""What `dspy-parallel demo` runs and shows.

The agent itself is `examples/level_agent`, its graph `examples/level_agent_graph`. A wheel carries them as subpackages
(`hatch_build.py` puts them there); in a checkout they stay where readers look for them, and are found through this
package's path.
"""

from __future__ import annotations

from pathlib import Path

__all__: list[str] = []

_examples = Path(__file__).resolve().parents[2] / "examples"
if not Path(__file__).with_name("level_agent").is_dir() and (_examples / "level_agent").is_dir():
    __path__.append(str(_examples))
