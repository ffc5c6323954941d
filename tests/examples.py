"""Finds and runs the examples of the documentation, in a process of their own.

    python -m tests.examples README.md               every ```python block, in order, in one namespace
    python -m tests.examples dspy_parallel.modules   every docstring example of a module, each in its own

`dspy.LM("openai/…")` in an example talks to a loopback server, so that examples read as a user would write them.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```[ ]*$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^(?P<indent> *)Examples?:[ ]*\n(?P<body>(?:(?P=indent)[ ]+[^\n]*\n|[ ]*\n)+)", re.MULTILINE)
_REASON = re.compile(r"^# not run: \S")


@dataclass(frozen=True)
class Block:
    """A fenced block: what follows the backticks, its text, and the line its text begins on."""

    info: str
    text: str
    line: int

    @property
    def is_python(self) -> bool:
        return self.info.split()[:1] == ["python"]

    @property
    def is_run(self) -> bool:
        return self.is_python and "no-run" not in self.info.split()

    @property
    def has_reason(self) -> bool:
        """Whether a block that is not run says why, in its first line."""
        return _REASON.match(self.text) is not None


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a Markdown text."""
    return [
        Block(
            info=found["info"].strip(),
            text=textwrap.dedent(found["body"]),
            line=text.count("\n", 0, found.start("body")) + 1,
        )
        for found in _FENCE.finditer(text)
    ]


def example_of(thing: object) -> str | None:
    """The text under `Example:` in a docstring, without its indentation."""
    found = _SECTION.search((inspect.getdoc(thing) or "") + "\n")
    return textwrap.dedent(found["body"]) if found else None


def documented(module: ModuleType) -> Iterator[tuple[str, object]]:
    """The module's own public classes and functions, and the methods of these classes."""
    for name, value in list(vars(module).items()):  # examples may import submodules
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value) or inspect.isroutine(value):
            yield name, value
        if inspect.isclass(value):
            for member, inner in vars(value).items():
                if not member.startswith("_") and (inspect.isroutine(inner) or isinstance(inner, property)):
                    yield f"{name}.{member}", inner


def run_block(source: str, filename: str, line: int, namespace: dict[str, Any]) -> None:
    """Execute source as lines of a file; `await` at the top level works as in a notebook."""
    padded = "\n" * (line - 1) + source
    code: CodeType = compile(padded, filename, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, namespace)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def run_file(path: Path) -> None:
    """Run every Python block of a Markdown file in one namespace."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(path.read_text(encoding="utf-8")):
        if block.is_run:
            run_block(block.text, str(path), block.line, namespace)


def run_docstrings(module: ModuleType) -> int:
    """Run every docstring example of a module; the number of those that failed."""
    failed = 0
    for name, thing in documented(module):
        example = example_of(thing)
        if example is None:
            continue
        try:
            fenced = [block for block in blocks(example) if block.is_run]
            for block in fenced:
                run_block(block.text, f"<example of {module.__name__}.{name}>", block.line, {"__name__": "__main__"})
            if not fenced and ">>>" in example:
                parsed = doctest.DocTestParser().get_doctest(example, dict(vars(module)), name, None, None)
                runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
                if runner.run(parsed).failed:
                    raise AssertionError("the doctest above")
        except Exception:
            failed += 1
            print(f"example of {module.__name__}.{name} failed:\n{traceback.format_exc()}", file=sys.stderr)
    return failed


def main(*targets: str) -> int:
    """Run the examples of Markdown files or modules, one after the other."""
    from dspy_parallel.testing import LMServer

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with LMServer() as server:
        os.environ["OPENAI_API_BASE"] = os.environ["OPENAI_BASE_URL"] = server.api_base
        os.environ["OPENAI_API_KEY"] = "not-needed"
        failed = 0
        for target in targets:
            if target.endswith(".md"):
                run_file(Path(target))
            else:
                failed += run_docstrings(importlib.import_module(target))
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
