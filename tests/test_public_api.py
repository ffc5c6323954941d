"""What is public is listed, documented and shown by an example; and the rules of the house. Tests list offenders."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dspy_parallel
from tests.support.examples import ROOT, code_of, example_of

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

# Lowest first. A part imports from lower layers and, without cycles, from its own.
LAYERS = [
    {"display", "escapes"},
    {"callables", "errors", "events", "loop_monitor", "placement", "thread_pool"},
    {"bridge", "task_pool"},
    {"seams"},
    {"analysis"},
    {"programs"},
    {"history", "overlap"},
    {"gathering", "generated", "langgraph", "modules", "runs"},
    {"batches", "limits", "timeline"},
    {"demo", "doctor", "overview", "ray"},
    {"compare"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: number for number, layer in enumerate(LAYERS) for name in layer}

REGISTERS_ROWS = {"langgraph", "limits", "modules", "overlap", "seams"}
"""Whose calls of others are patched; nobody else patches."""

NO_NAMES = {"base", "common", "core", "helpers", "misc", "utils"}
NOUNS = {"string", "testing"}
"""Words that end as gerunds do."""

LONGEST_FILE = 450
LONGEST_PACKAGE = 34_296
"""On the way to 20,000."""

# What does not hold yet. These lists only get shorter.
GERUNDS = {"blocking", "gathering", "muting", "request_sharing"}
NAMED_TWICE: set[str] = set()
CROSSING = {"_has_twin"}
IN_CYCLES = {"overlap"}
"""Parts."""


# --- Public names


def public_names() -> list[tuple[str, str, Any]]:
    modules = [(module, importlib.import_module(module)) for module in PUBLIC_MODULES]
    return [(module, name, getattr(found, name)) for module, found in modules for name in found.__all__]


def test_all_lists_what_is_there():
    for module in PUBLIC_MODULES:
        found = importlib.import_module(module)
        assert len(found.__all__) == len(set(found.__all__)), module
        assert [name for name in found.__all__ if name.startswith("_") or not hasattr(found, name)] == [], module


def test_every_name_of_the_package_is_in_all():
    """Names imported into the package are its interface; nothing gets in by accident."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    imported = {alias.asname or alias.name for node in imports for alias in node.names}
    assert imported == {*dspy_parallel.__all__, *dspy_parallel._OF_EXTRAS}
    assert set(dspy_parallel.__all__) == set(dspy_parallel._HOMES)


def test_names_of_extras_are_where_they_are_looked_for(monkeypatch):
    """And say which extra it is that has them."""
    assert re.fullmatch(r"\d+\.\d+.*", dspy_parallel.__version__)
    for name, (home, needed) in dspy_parallel._OF_EXTRAS.items():
        if importlib.util.find_spec(needed):
            assert getattr(dspy_parallel, name) is getattr(importlib.import_module(f"dspy_parallel.{home}"), name)
            assert name in dir(dspy_parallel)
        vars(dspy_parallel).pop(name, None)
        with monkeypatch.context() as without:
            without.setattr(dspy_parallel, "_is_there", lambda package: False)
            with pytest.raises(dspy_parallel.MissingExtraError, match=rf"pip install 'dspy-parallel\[{home}\]'"):
                getattr(dspy_parallel, name)
            assert name not in dir(dspy_parallel)


def has_example_elsewhere(thing: Any) -> bool:
    """What is raised or returned is shown by what raises or returns it."""
    return inspect.isclass(thing) and (issubclass(thing, BaseException) or dataclasses.is_dataclass(thing))


def test_public_names_are_documented():
    """Constants and type aliases have their comment in the source."""
    named = [entry for entry in public_names() if inspect.isclass(entry[2]) or inspect.isroutine(entry[2])]
    assert [(module, name) for module, name, thing in named if not thing.__doc__] == [], "no docstring"
    silent = [each for each in named if not has_example_elsewhere(each[2]) and not example_of(each[2])]
    assert [each[:2] for each in silent] == [], "no `Example:` section"


def test_public_names_are_in_the_reference_once_and_in_an_example_that_runs():
    """In a block of the page, or in the docstring; under its shortest name if it has several.

    What needs Ray is run by tests/ray.
    """
    pages = {page: page.read_text("utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md"))}
    listed = [(name, page) for page, text in pages.items() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    assert [name for name, times in Counter(name for name, _ in listed).items() if times > 1] == []
    page_of, unlisted, unshown = dict(listed), [], []
    for module, name, thing in public_names():
        is_short = name in dspy_parallel.__all__ and getattr(dspy_parallel, name) is thing
        page = page_of.get(f"dspy_parallel.{name}" if is_short else f"{module}.{name}")
        if page is None:
            unlisted.append((module, name))
            continue
        example = example_of(thing) or ""
        shown = code_of(pages[page]) + (code_of(example) if name != "map_dataset" else example)
        if not re.search(rf"\b{name}\b", shown):
            unshown.append((module, name, page.name))
    assert not unlisted, "in no page of docs/api"
    assert not unshown, "in no example"


def test_every_error_has_one_base():
    errors = importlib.import_module("dspy_parallel.errors")
    bases = (errors.DSPyParallelError, errors.DSPyParallelWarning)
    assert [name for name in errors.__all__ if not issubclass(getattr(errors, name), bases)] == []


def test_the_package_is_typed():
    assert (PACKAGE / "py.typed").exists()


# --- Dependencies


@functools.cache
def files() -> dict[str, Path]:
    """Dotted names of modules, `bridge.kernel` say, with their files; the package itself is not among them."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = [part for part in file.relative_to(PACKAGE).with_suffix("").parts if part != "__init__"]
        if parts:
            found[".".join(parts)] = file
    return found


def imports_of(module: str) -> Iterator[tuple[str, bool]]:
    """Dotted names that a file imports, wherever in it the statement stands, and whether for types only."""
    file = files()[module]
    package = ["dspy_parallel", *file.relative_to(PACKAGE).parts[:-1]]

    def visit(node: ast.AST, for_types: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*prefix, *([node.module] if node.module else [])])
            # `from . import seams` imports a module; `from .seams import install` a name of one.
            yield from ((f"{origin}.{alias.name}", for_types) for alias in node.names)
        is_guard = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.iter_child_nodes(node):
            yield from visit(inner, for_types or (is_guard and inner not in node.orelse))

    yield from visit(ast.parse(file.read_text(encoding="utf-8")), False)


@functools.cache
def dependences() -> dict[str, set[str]]:
    """Modules of this package, and which of the others each imports, those for types included."""
    found: dict[str, set[str]] = {}
    for module in files():
        found[module] = set()
        for name, _ in imports_of(module):
            if name.startswith("dspy_parallel."):
                name = name.removeprefix("dspy_parallel.")
                while name and name not in files():
                    name = name.rpartition(".")[0]
                found[module].add(name or "the package, and not the module that defines it")
        found[module].discard(module)
    return found


def part_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_part_has_a_layer():
    assert {part_of(module) for module in files()} - LAYER.keys() == {"testing"}


def test_dependencies_point_one_way():
    wrong = []
    for module, imported in dependences().items():
        part = part_of(module)
        for other in {part_of(name) for name in imported} - {part}:
            if part == "testing":  # stands alone
                is_below = other == "errors"
            elif other == "testing":  # only commands start test servers
                is_below = part in ("cli", "compare")
            else:
                is_below = other in LAYER and LAYER[other] <= LAYER[part]
            if not is_below:
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def in_cycles(edges: dict[str, set[str]]) -> set[str]:
    """Nodes that reach themselves, and what lies on the way between two such."""
    left = {name: set(targets) for name, targets in edges.items()}
    for ends in (lambda name: left[name] & left.keys(), lambda name: {o for o in left if name in left[o]}):
        while free := {name for name in left if not ends(name)}:
            for name in free:
                del left[name]
    return set(left)


def test_parts_do_not_import_each_other():
    edges: dict[str, set[str]] = {}
    for module, imported in dependences().items():
        part = part_of(module)
        edges.setdefault(part, set()).update({part_of(name) for name in imported} - {part})
    assert not in_cycles(edges)


def test_no_modules_import_each_other():
    """Not for types either: what two modules need is a third one's."""
    others = {module: imported for module, imported in dependences().items() if part_of(module) not in IN_CYCLES}
    assert in_cycles({module: imported & others.keys() for module, imported in others.items()}) == set()


def test_third_parties_stay_where_they_belong():
    def knows_dspy(module: str) -> bool:
        return LAYER.get(part_of(module), 0) >= LAYER["seams"]

    allowed = {
        "wrapt": lambda module: part_of(module) == "seams",  # nobody else patches
        "langgraph": lambda module: part_of(module) == "langgraph" or module == "doctor.graph_nodes",
        "aiohttp": lambda module: part_of(module) == "testing",
        "dspy": knows_dspy,
        "litellm": knows_dspy,
    }
    used = {
        (module, name.partition(".")[0])
        for module in files()
        for name, for_types in imports_of(module)
        if not for_types
    }
    assert sorted(each for each in used if each[1] in allowed and not allowed[each[1]](each[0])) == []


def test_only_these_patch():
    """By rows of the table of seams: nobody sets an attribute of another's class or module."""
    rows = {f"dspy_parallel.seams.table.{name}" for name in ("Seam", "register")}
    registering = {part_of(module) for module in files() for name, _ in imports_of(module) if name in rows}
    assert registering <= REGISTERS_ROWS


def test_no_private_name_crosses_a_part():
    crossing = [
        name.removeprefix("dspy_parallel.")
        for module in files()
        for name, _ in imports_of(module)
        if name.startswith("dspy_parallel.") and name.rpartition(".")[2].startswith("_")
        if name.split(".")[1] != part_of(module)
    ]
    assert sorted(name for name in set(crossing) if name.rpartition(".")[2] not in CROSSING) == []


# --- Names and sizes of files


def stems() -> list[str]:
    return [file.stem for file in files().values() if file.stem not in ("__init__", "__main__")]


def test_files_are_named_by_nouns_of_the_field():
    assert sorted(NO_NAMES & {*stems(), *map(part_of, files())}) == []
    words = {stem: [word for word in stem.split("_") if word.endswith("ing") and word not in NOUNS] for stem in stems()}
    assert sorted({stem for stem, gerunds in words.items() if gerunds} - GERUNDS) == []


def test_no_name_stands_for_two_files():
    assert sorted({name for name, times in Counter(stems()).items() if times > 1} - NAMED_TWICE) == []


def test_no_file_holds_two_ideas_and_the_package_fits_into_a_head():
    lengths = {module: len(file.read_text(encoding="utf-8").splitlines()) for module, file in files().items()}
    assert {module: length for module, length in lengths.items() if length > LONGEST_FILE} == {}
    assert sum(lengths.values()) <= LONGEST_PACKAGE
