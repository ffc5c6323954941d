"""Finds what a command line names: the program (`package.module:object`, `file.py:object`) and its inputs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ..doctor.target import Target, as_target, targets_in
from ..errors import TargetError

__all__ = ["import_place", "load_inputs", "load_target", "load_targets"]

_NOT_LOOKED_INTO = {"site-packages", "node_modules", "build", "dist"}
_IMPORTS = ("dspy", "langgraph", "fastapi", "starlette")


def load_inputs(given: list[str]) -> list[dict[str, Any]]:
    """The calls that are described: one object of keyword arguments (for a graph, its state), or a list of them.

    Args:
        given: What `--input` was given: a JSON file, `-` for stdin, JSON itself, or any number of `name=value`, of
            which the value is JSON if it can be read as such, and text otherwise.

    Raises:
        TargetError: If it cannot be read, is no JSON, or describes something else.
    """
    first = given[0]
    if first.lstrip()[:1] not in ("{", "[") and all(
        text.partition("=")[0].isidentifier() and "=" in text for text in given
    ):
        return [{name: _value(text) for name, _, text in (pair.partition("=") for pair in given)}]
    if len(given) > 1:
        raise TargetError(f"Several inputs are written as name=value, which {first!r} is not.")
    name, text = f"The input {first}", first
    try:
        if first == "-":
            text = sys.stdin.read()
        elif first.lstrip()[:1] not in ("{", "["):
            text = Path(first).read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise TargetError(f"{name} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise TargetError(f"{name} is not JSON: {error}.") from error
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise TargetError(
            f'{name} is neither an object of keyword arguments, such as {{"question": "Why?"}}, nor a list of such '
            "objects."
        )
    return calls


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
    found: Any = import_place(place)
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


def load_targets(spec: str) -> tuple[list[Target], list[str]]:
    """The programs that a command line names: one object, or all that a file, a module, a package or a folder makes.

    Of a folder or package those files are imported that speak of DSPy, LangGraph or FastAPI; tests are not.

    Args:
        spec: As for `load_target()`; or a path, or a module's dotted name.

    Returns:
        The programs; and which files could not be imported, and why.

    Raises:
        TargetError: If there is no such thing, it cannot be imported, or there is no program in it.
    """
    if ":" in spec:
        return [load_target(spec)], []
    skipped: list[str] = []
    modules: list[ModuleType] = []
    folders = [spec] if Path(spec).is_dir() else []
    if not folders:
        modules.append(import_place(spec))
        folders = list(getattr(modules[0], "__path__", ()))
    for folder in folders:
        for file in _files_of(Path(folder)):
            try:
                modules.append(import_place(str(file)))
            except TargetError as error:
                skipped.append(str(error))
    unique = {id(target.value): target for module in modules for target in targets_in(module)}
    if not unique:
        what = "Nothing in it is a dspy.Module, a LangGraph, an app or an async function at the top of a file."
        raise TargetError(" ".join([f"{spec} has no program.", *(skipped or [what])]))
    return list(unique.values()), skipped


def _files_of(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _NOT_LOOKED_INTO or (path / "pyvenv.cfg").is_file():
            continue
        if path.is_dir():
            yield from _files_of(path)
        elif path.suffix == ".py" and not path.name.startswith(("test_", "conftest.", "setup.")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if any(name in text for name in _IMPORTS):
                yield path


def import_place(place: str) -> ModuleType:
    """The module that a file or a dotted name stands for.

    Raises:
        TargetError: If there is none, or importing it fails.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if place.endswith(".py"):
        file = Path(place).resolve()
        if not file.is_file():
            raise TargetError(f"There is no file {place}.")
        return _imported(lambda: _import_file(file), place)
    try:
        exists = importlib.util.find_spec(place) is not None
    except (ImportError, ValueError, AttributeError):
        exists = False
    if not exists:
        raise TargetError(f"There is no module {place!r}. Run this from the directory that it is in, or name its file.")
    return _imported(lambda: importlib.import_module(place), place)


def _imported(load: Callable[[], ModuleType], place: str) -> ModuleType:
    given, sys.argv = sys.argv, [place]  # for parsers of arguments at the top of a script
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise TargetError(f"Importing {place} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.argv = given


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
