"""Importing the package brings in nothing that need not be there. (tests/bench/test_imports.py has the time.)"""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.once

OPTIONAL = {"litellm", "langgraph", "langchain_core", "rich", "aiohttp", "ray", "pytest", "IPython"}


def python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=280, check=True)
    return done.stdout


def test_import_brings_in_nothing_but_ours_and_what_it_is_made_of():
    program = """
import dspy, sys
before = set(sys.modules)
from dspy_parallel import async_module, install, run
print(*(set(sys.modules) - before))
"""
    added = python(program).split()
    ours = [name for name in added if name.split(".")[0] == "dspy_parallel"]
    assert 0 < len(ours) < 100
    assert OPTIONAL & {name.split(".")[0] for name in added} == set()


def test_the_pytest_plugin_does_not_import_dspy():
    """The plugin is loaded by every pytest run of the environment it is installed in, whatever is tested."""
    assert python("import dspy_parallel.testing.plugin, sys; print('dspy' in sys.modules)").strip() == "False"
