"""Run in an environment that has the built wheel and little else: touches every public name, and tells what is missing.

The arguments are the extras that are there. Names of the others have to say which extra they need.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path

EXTRAS_OF = {
    "dspy_parallel": None,
    "dspy_parallel.langgraph": "langgraph",
    "dspy_parallel.limits": "limits",
    "dspy_parallel.ray": "ray",
    "dspy_parallel.testing": "testing",
    "dspy_parallel.timeline": None,
    "dspy_parallel.overlap": None,
    "dspy_parallel.batches": None,
    "dspy_parallel.doctor": None,
    "dspy_parallel.compare": None,
    "dspy_parallel.bridge": None,
    "dspy_parallel.seams": None,
    "dspy_parallel.errors": None,
}


def touch(module: str, extra: str | None, there: set[str]) -> list[str]:
    """Complaints about one module's names."""
    complaints = []
    try:
        names = list(importlib.import_module(module).__all__)
    except ImportError as error:
        return [] if extra not in there and f"dspy-parallel[{extra}]" in str(error) else [f"{module}: {error!r}"]
    for name in names:
        try:
            getattr(importlib.import_module(module), name)
        except ImportError as error:
            if "dspy-parallel[" not in str(error):
                complaints.append(f"{module}.{name}: {error!r}")
    return complaints


def commands() -> list[str]:
    """The command line, without the packages that only some of its reports need."""
    complaints = []
    script = Path(sys.executable).with_name("dspy-parallel")
    for command in ([str(script), "--help"], [sys.executable, "-m", "dspy_parallel.testing", "--help"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            complaints.append(f"{command[1:]}: {done.stderr[-300:]}")
    return complaints


def main() -> None:
    there = set(sys.argv[1:])
    assert "site-packages" in str(importlib.import_module("dspy_parallel").__file__), "the wheel, not a checkout"
    complaints = [line for module, extra in EXTRAS_OF.items() for line in touch(module, extra, there)]
    complaints += commands()
    print("\n".join(complaints))
    sys.exit(bool(complaints))


main()
