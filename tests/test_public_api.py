"""What is public is listed, documented and shown by an example; dependencies point one way."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import dspy_parallel
from tests.examples import ROOT, code_of, example_of

pytestmark = pytest.mark.once

PACKAGE = Path(dspy_parallel.__file__).parent

# Where users import from. What other packages list in `__all__` is for the rest of this one.
PUBLIC_MODULES = [
    name
    for name in (
        "dspy_parallel",
        "dspy_parallel.batches",
        "dspy_parallel.doctor",
        "dspy_parallel.langgraph",
        "dspy_parallel.limits",
        "dspy_parallel.overlap",
        "dspy_parallel.ray",
        "dspy_parallel.testing",
        "dspy_parallel.timeline",
    )
    if importlib.util.find_spec(name)
]

# Lowest first. A module imports from lower layers and, without cycles, from its own.
LAYERS = [
    {"errors", "events"},
    {"bridge"},
    {"seams"},
    {"programs", "modules", "langgraph", "overlap", "limits", "timeline"},
    {"batches"},
    {"targets", "doctor", "compare", "ray", "demo"},
    {"cli"},
]
MIDDLE = 3
"""Layer of modules that are not named above."""

FORBIDDEN_NAMES = {"utils", "core", "helpers", "common", "base", "misc"}


# --- Public names


def public_names() -> list[tuple[str, str]]:
    return [(module, name) for module in PUBLIC_MODULES for name in importlib.import_module(module).__all__]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_all_lists_what_is_there(module):
    found = importlib.import_module(module)
    listed = found.__all__
    assert len(listed) == len(set(listed))
    assert [name for name in listed if not hasattr(found, name)] == []
    assert [name for name in listed if name.startswith("_")] == []


def test_every_name_of_the_package_is_in_all():
    """Names imported into the package are its interface; nothing gets in by accident."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    assert imported == set(dspy_parallel.__all__) == set(dspy_parallel._HOMES)


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_names_are_documented(module, name):
    thing = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        return  # a constant or a type alias has its comment in the source
    assert thing.__doc__, f"{module}.{name} has no docstring of its own"
    if inspect.isclass(thing) and (issubclass(thing, BaseException) or dataclasses.is_dataclass(thing)):
        return  # raised or returned by what has the example
    assert example_of(thing), f"{module}.{name} has no Example: section"


def reference() -> dict[str, Path]:
    """What has a place in docs/api, with its page."""
    pages = sorted((ROOT / "docs" / "api").glob("*.md"))
    listed = [(name, p) for p in pages for name in re.findall(r"^::: (\S+)$", p.read_text("utf-8"), re.MULTILINE)]
    twice = [name for name, times in Counter(name for name, _ in listed).items() if times > 1]
    assert not twice, f"documented twice: {twice}"
    return dict(listed)


@pytest.mark.parametrize(("module", "name"), public_names())
def test_public_names_are_in_the_reference_and_in_an_example_that_runs(module, name):
    """In a block of the page, or in the docstring; under its shortest name if it has several.

    What needs Ray is run by tests/ray.
    """
    thing = getattr(importlib.import_module(module), name)
    is_short = getattr(dspy_parallel, name, None) is thing
    page = reference().get(f"dspy_parallel.{name}" if is_short else f"{module}.{name}")
    assert page is not None, f"in docs/api there is nothing about {module}.{name}"
    example = example_of(thing) or ""
    shown = code_of(page.read_text(encoding="utf-8")) + (code_of(example) if name != "map_dataset" else example)
    assert re.search(rf"\b{name}\b", shown), f"no example has {name}: {page.name} neither"


def test_every_error_has_one_base():
    errors = importlib.import_module("dspy_parallel.errors")
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, (errors.DSPyParallelError, errors.DSPyParallelWarning))


# --- Dependencies


def source_files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def top_of(file: Path) -> str:
    """The name in LAYERS that a file belongs to."""
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imports_of(file: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports at run time, wherever in it the statement stands."""
    package = ["dspy_parallel", *file.relative_to(PACKAGE).parts[:-1]]

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for inner in node.orelse:
                yield from visit(inner)
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*prefix, *([node.module] if node.module else [])])
            # `from . import seams` imports a module; `from .seams import install` a name of one.
            yield from (f"{origin}.{alias.name}" for alias in node.names)
        for inner in ast.iter_child_nodes(node):
            yield from visit(inner)

    yield from visit(ast.parse(file.read_text(encoding="utf-8")))


def third_party(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports_of(file)} - {"dspy_parallel"}


def own(file: Path) -> set[str]:
    """Top-level parts of this package that a file imports."""
    found = set()
    for name in imports_of(file):
        parts = name.split(".")
        if parts[0] == "dspy_parallel" and len(parts) > 1:
            found.add(parts[1])
    return found - {top_of(file)}


def layer_of(name: str) -> int:
    return next((number for number, layer in enumerate(LAYERS) if name in layer), MIDDLE)


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_dependencies_point_one_way(file):
    top = top_of(file)
    if top == "__init__":
        return
    names = {name for name in own(file) if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").exists()}
    if top == "testing":
        assert names <= {"errors"}, "the test server stands alone"
        return
    above = {name for name in names - {"testing"} if layer_of(name) > layer_of(top)}
    assert not above, f"{top} is below {above}"
    assert "testing" not in names or top in ("cli", "demo", "targets"), "only commands start test servers"
    assert "__init__" not in names
    assert own(file) - names <= set(), f"import {own(file) - names} from the module that defines them"


def test_no_cycles():
    edges: dict[str, set[str]] = {}
    for file in source_files():
        if top_of(file) != "__init__":
            edges.setdefault(top_of(file), set()).update(own(file))
    while free := {name for name in edges if not edges[name] & edges.keys()}:
        for name in free:
            del edges[name]
    assert not edges, f"parts that import each other: {edges}"


@pytest.mark.parametrize("file", source_files(), ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_third_parties_stay_where_they_belong(file):
    top, used = top_of(file), third_party(file)
    if top in ("bridge", "errors", "testing"):
        assert not used & {"dspy", "litellm", "wrapt", "langgraph"}
    if top != "seams":
        assert "wrapt" not in used, "only seams patch"
    if not top.startswith("langgraph") and file != PACKAGE / "doctor" / "graphs.py":
        assert "langgraph" not in used
    if top != "testing":
        assert "aiohttp" not in used


# --- Names and sizes of files


def test_no_file_is_named_for_nothing():
    named = {part for file in source_files() for part in file.relative_to(PACKAGE).with_suffix("").parts}
    assert not named & FORBIDDEN_NAMES


def test_no_file_holds_two_ideas():
    long = {str(file.relative_to(PACKAGE)): length for file in source_files() if (length := _lines(file)) > 450}
    assert not long, f"over 450 lines: {long}"


def _lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()
