"""Importing the package costs next to nothing on top of importing DSPy."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

LIMIT = 0.050
"""Seconds that `import dspy_parallel` may add to `import dspy`."""

# CPU time and not wall time, and the median of several processes: the machine that runs this may be busy, and the first
# process may have to compile.
_MEASURE = """
import dspy, time
begin = time.process_time()
from dspy_parallel import async_module, install, run
print(time.process_time() - begin)
"""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


def test_import_adds_little_to_importing_dspy():
    added = [float(python(_MEASURE)) for _ in range(5)]
    assert statistics.median(added) <= LIMIT, [f"{seconds * 1000:.0f} ms" for seconds in added]


@pytest.mark.parametrize("optional", ["litellm", "langgraph", "langchain_core", "rich", "aiohttp", "ray", "pytest"])
def test_import_brings_in_nothing_optional(optional):
    program = f"""
import dspy, sys
before = {optional!r} in sys.modules
from dspy_parallel import async_module, install, run
print(before or {optional!r} not in sys.modules)
"""
    assert python(program).strip() == "True"


def test_the_pytest_plugin_does_not_import_dspy():
    """The plugin is loaded by every pytest run of the environment it is installed in, whatever is tested."""
    assert python("import dspy_parallel.testing.plugin, sys; print('dspy' in sys.modules)").strip() == "False"
