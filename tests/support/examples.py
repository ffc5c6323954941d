"""Finds and runs the examples of the documentation, in a process of their own.

    python -m tests.support.examples README.md               every ```python block, in order, in one namespace
    python -m tests.support.examples dspy_parallel.modules   every docstring example of a module, each in its own

`dspy.LM("openai/…")` in an example talks to a loopback server, so that examples read as a user would write them.
Several targets run in a fork each: none sees what another did, and all share what takes longest,
the imports.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import linecache
import multiprocessing
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
"""Everything that is written for readers."""

REPOSITORY = re.compile(r"https://(github|raw\.githubusercontent)\.com/dspy-parallel/dspy-parallel(/blob)?/main/")
"""What the README's links begin with: package indexes show it, too."""

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


def named(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks_of(page: Path, language: str) -> list[Block]:
    """A page's fenced blocks in one language."""
    return [block for block in blocks(page.read_text(encoding="utf-8")) if block.info.split()[:1] == [language]]


def code_of(text: str) -> str:
    """Everything in a Markdown text, or in the example of a docstring, that is run as a test."""
    prompts = re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", text, re.MULTILINE)
    return "\n".join([*(block.text for block in blocks(text) if block.is_run), *prompts])


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


def new_main(file: str | None = None) -> dict[str, Any]:
    """The namespace of a new `__main__`, in whose file, if it has one, `inspect` looks for what blocks define."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    if file is not None:
        module.__file__ = file
    return vars(module)


def run_file(path: Path) -> None:
    """Run every Python block of a Markdown file in one namespace."""
    text = path.read_text(encoding="utf-8")
    runnable = [block for block in blocks(text) if block.is_run]
    lines = [""] * len(text.splitlines())
    for block in runnable:
        body = block.text.splitlines()
        lines[block.line - 1 : block.line - 1 + len(body)] = body
    # What `inspect` takes for the file: before Python 3.13 it parses all of it when it looks for a class.
    linecache.cache[str(path)] = (len(text), None, [f"{line}\n" for line in lines], str(path))
    namespace = new_main(str(path))
    for block in runnable:
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
                run_block(block.text, f"<example of {module.__name__}.{name}>", block.line, new_main())
            if not fenced and ">>>" in example:
                parsed = doctest.DocTestParser().get_doctest(example, dict(vars(module)), name, None, None)
                runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
                if runner.run(parsed).failed:
                    raise AssertionError("the doctest above")
        except Exception:
            failed += 1
            print(f"example of {module.__name__}.{name} failed:\n{traceback.format_exc()}", file=sys.stderr)
    return failed


def run_target(target: str) -> None:
    """Run the examples of a Markdown file or a module; exits with 1 if a docstring example failed."""
    if target.endswith(".md"):
        run_file(Path(target))
    elif run_docstrings(importlib.import_module(target)):
        sys.exit(1)


def run_in_forks(targets: Sequence[str], at_once: int = 3) -> int:
    """The number of targets that failed; most of them wait for their LM, so that several run at once."""
    forks = [
        multiprocessing.get_context("fork").Process(target=run_target, args=(target,), name=target)
        for target in targets
    ]
    for number, fork in enumerate(forks):
        if number >= at_once:
            forks[number - at_once].join()
        fork.start()
    for fork in forks:
        fork.join()
    return sum(fork.exitcode != 0 for fork in forks)


def main(*targets: str) -> int:
    """Run the examples of Markdown files or modules; the number of targets that failed."""
    from dspy_parallel.testing import LMServer

    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    with LMServer() as server:
        os.environ["OPENAI_API_BASE"] = os.environ["OPENAI_BASE_URL"] = server.api_base
        os.environ["OPENAI_API_KEY"] = "not-needed"
        if len(targets) == 1:
            run_target(*targets)
            return 0
        for module in ("dspy", "litellm", "langgraph.graph"):
            importlib.import_module(module)
        return run_in_forks(targets)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
