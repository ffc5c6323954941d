"""Importing the package costs next to nothing on top of importing DSPy."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

LIMIT = 0.050
"""Seconds that `import dspy_parallel` may add to `import dspy`."""
SHARE = 0.05
"""Or, where everything is slower, the share of `import dspy` itself, measured in the same process."""

# CPU time and not wall time, and the best of several processes: the machine that runs this may be busy.
_MEASURE = """
import time
begin = time.process_time()
import dspy
middle = time.process_time()
from dspy_parallel import async_module, install, run
print(middle - begin, time.process_time() - middle)
"""


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100, check=True)
    return done.stdout


def test_import_adds_little_to_importing_dspy():
    measured = []
    for _ in range(5):
        dspy, added = map(float, python(_MEASURE).split())
        measured.append(f"{added * 1000:.0f} ms on top of {dspy * 1000:.0f} ms")
        if added <= max(LIMIT, SHARE * dspy):
            return
    pytest.fail(f"import dspy_parallel took too much CPU: {', '.join(measured)}")


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
