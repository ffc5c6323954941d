"""Finds the object that `package.module:object` or `file.py:object` names, and says what kind of thing it is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Literal

import dspy

from ..errors import TargetError

__all__ = ["Target", "as_target", "load_target"]

Kind = Literal["module", "builder", "graph", "function"]


@dataclass(frozen=True)
class Target:
    """A program, and what it is called.

    Attributes:
        name: As it was named.
        kind: `"module"` (a class or an instance), `"builder"` (a `StateGraph`), `"graph"` (compiled) or `"function"`.
        value: The object itself.
    """

    name: str
    kind: Kind
    value: Any

    @property
    def is_graph(self) -> bool:
        """Whether it is a LangGraph, compiled or not."""
        return self.kind in ("builder", "graph")

    def runnable(self) -> Any:
        """What can be called: an instance of a module class, a builder compiled.

        Raises:
            TargetError: If a class cannot be instantiated without arguments.
        """
        if self.kind == "builder":
            return self.value.compile()
        if isinstance(self.value, type):
            try:
                return self.value()
            except TypeError as error:
                raise TargetError(
                    f"{self.name} is a class that cannot be made without arguments ({error}). Name an instance, or a "
                    "function that returns one: 'file.py:make()'."
                ) from error
        return self.value


def load_target(spec: str) -> Target:
    """The program that a command line names.

    The current directory is importable, as under `python -m`. A trailing `()` calls what is named and takes the
    result, for functions that build a program.

    Args:
        spec: `"package.module:object"` or `"path/file.py:object"`; the object may be dotted.

    Raises:
        TargetError: If there is no such file, module or object, if importing it fails, or if it is no program.
    """
    place, colon, path = spec.rpartition(":")
    if not colon or not place or not path:
        raise TargetError(f"{spec!r} names no object. Write 'package.module:object' or 'file.py:object'.")
    is_called = path.endswith("()")
    found: Any = _import(place, spec)
    for name in path.removesuffix("()").split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(f"{place} has no object {path.removesuffix('()')!r}.{_candidates(found)}") from None
    if is_called:
        if not callable(found):
            raise TargetError(f"{spec} asks to call {found!r}, which cannot be called. Leave out the '()'.")
        try:
            found = found()
        except Exception as error:
            raise TargetError(f"Calling {spec} failed: {type(error).__name__}: {error}") from error
    return as_target(found, spec)


def as_target(value: Any, name: str = "") -> Target:
    """The kind of program that an object is.

    Raises:
        TargetError: If it is none.
    """
    name = name or str(getattr(value, "__qualname__", "")) or f"<{type(value).__qualname__}>"
    if isinstance(value, dspy.Module) or (isinstance(value, type) and issubclass(value, dspy.Module)):
        return Target(name, "module", value)
    if isinstance(value, _langgraph("langgraph.graph.state", "StateGraph")):
        return Target(name, "builder", value)
    if isinstance(value, _langgraph("langgraph.pregel", "Pregel")):
        return Target(name, "graph", value)
    if callable(value) and not isinstance(value, type):
        return Target(name, "function", value)
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise TargetError(
        f"{name} is {kind}, which is no program. Name a dspy.Module (class or instance), a LangGraph (StateGraph or "
        "compiled) or a function."
    )


def _langgraph(module: str, name: str) -> tuple[type, ...]:
    """LangGraph's class, if anybody has imported it: nothing else can be an instance of it."""
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()


def _import(place: str, spec: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if place.endswith(".py"):
        file = Path(place).resolve()
        if not file.is_file():
            raise TargetError(f"There is no file {place}.")
        return _imported(lambda: _import_file(file), spec)
    try:
        exists = importlib.util.find_spec(place) is not None
    except (ImportError, ValueError, AttributeError):
        exists = False
    if not exists:
        raise TargetError(f"There is no module {place!r}. Run this from the directory that it is in, or name its file.")
    return _imported(lambda: importlib.import_module(place), spec)


def _imported(load: Callable[[], ModuleType], spec: str) -> ModuleType:
    try:
        return load()
    except Exception as error:
        raise TargetError(f"Importing {spec} failed: {type(error).__name__}: {error}") from error


def _import_file(file: Path) -> ModuleType:
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():  # in a package: by its full name, so that relative imports work
        parts.insert(0, root.name)
        root = root.parent
    name = ".".join(part for part in parts if part != "__init__")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is None and len(parts) > 1:
        return importlib.import_module(name)
    # A name of its own: the file may be called like a module that is imported already.
    name = name if known is None else f"{name}_{abs(hash(str(file)))}"
    found = importlib.util.spec_from_file_location(name, file)
    assert found is not None
    assert found.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _candidates(module: Any) -> str:
    """The programs that there are, for somebody who has mistyped one."""
    names: list[str] = []
    for name, value in vars(module).items() if isinstance(module, ModuleType) else ():
        is_imported = (isinstance(value, (type, FunctionType))) and value.__module__ != module.__name__
        if name.startswith("_") or is_imported:
            continue
        try:
            if as_target(value, name).kind != "function" or isinstance(value, FunctionType):
                names.append(name)
        except TargetError:
            continue
    return f" It has {', '.join(sorted(names)[:8])}." if names else ""
