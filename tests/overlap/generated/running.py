"""Runs a generated program in sequence and overlapped, on an LM that sometimes gives what no adapter can parse."""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
import types
from pathlib import Path
from typing import Any

from tests.overlap.generated.source import CALM
from tests.overlap.observing import Seen, observe
from tests.support.timed_lm import TimedLM, uneven

__all__ = ["CALLS", "load", "run_both"]

CALLS = 60
"""Programs that make more LM calls are left alone."""


def load(source: str, directory: Path) -> types.ModuleType:
    """The program's module, fresh, from a file, as users have it. Each text has a file of its own."""
    path = directory / f"program_{hash(source) & 0xFFFFFFFFFFFF:x}.py"
    if not path.exists():
        path.write_text(source)
        linecache.checkcache(str(path))
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(source, str(path), "exec"), vars(module))
    return module


def _twist(conversation: Any, content: str) -> str:
    """One reply in fifty does not parse."""
    return "I would rather not say." if int(conversation.digest[-4:], 16) % 50 == 0 else content


def _effects(program: Any) -> Any:
    names = type(program).bump.__globals__
    own = [(path, vars(module)) for path, module in program.named_sub_modules() if hasattr(module, "total")]
    return {
        "log": names["LOG"],
        "shared": names.get("SHARED"),
        "said": names["SAID"].getvalue() if "SAID" in names else "",
        "state": {
            path: [values.get(name) for name in ("state", "memory", "total", "last", "kept_one")]
            for path, values in own
        },
        "stores": {path: [vars(each) for each in values.get("stores", [])] for path, values in own},
    }


def run_both(source: str, directory: Path, way: Any = "overlapped") -> tuple[Seen, Seen] | None:
    """What is seen of both runs; None if the program makes too many calls.

    Args:
        source: The program.
        directory: Where its file is to be.
        way: How it runs the second time: as for `observe()`.
    """
    found: list[Seen] = []
    for which in ("sequential", way):
        module = load(source, directory)
        twist = None if source.startswith(f"# {CALM}") else _twist
        lm = TimedLM(latency=uneven if way == "overlapped" else lambda _: 0.0, twist=twist)
        module.OTHER = other = TimedLM(latency=lambda asked, lm=lm: lm.latency(asked) / 2, twist=twist)
        other.requests = lm.requests
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            seen = observe(
                module.Program,
                {"text": "begin"},
                lm,
                which,
                effects=_effects,
                file=str(module.__file__),
            )
        seen.everything["printed"] = printed.getvalue()
        found.append(seen)
        del sys.modules[module.__name__]  # thousands of them are a gigabyte
        if len(lm.requests) > CALLS:
            return None
    return found[0], found[1]
