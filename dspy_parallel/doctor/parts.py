"""What a target consists of: the functions that run, and where each of them does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import dspy

from ..analysis.call_graph import Call, calls_of
from ..analysis.places import Place, is_users, place_of, plain_function
from ..callables import is_coroutine_function
from ..placement import Placement
from ..programs import placement_of
from ..seams.async_counterparts import is_counterpart

__all__ = ["MARK", "Program", "program_of", "programs_of_app", "programs_of_module", "tools_of"]

Where = Literal["loop", "bridge", "threads", "caller"]

MARK = "__bridge_engine__"


@dataclass(frozen=True)
class Program:
    """One function that runs as a whole: a module's `forward`, a graph's node, a function.

    Attributes:
        name: For people.
        kind: `"module"`, `"node"`, `"edge"` (a conditional edge's function), `"route"`, `"tool"` or `"function"`.
        runs: What is read; see `calls_of()`.
        where: `"loop"` (its code runs on the event loop as it is), `"bridge"` (sync code that this package runs),
            `"threads"` (LangGraph's, or the server's) or `"caller"` (the thread that calls it).
        engine: The bridge's engine.
        why: The reason for `where`, for people.
        subject: The object itself.
    """

    name: str
    kind: Literal["module", "node", "edge", "route", "tool", "function"]
    runs: Any
    where: Where
    engine: str = ""
    why: str = ""
    subject: Any = field(default=None, compare=False)

    @functools.cached_property
    def calls(self) -> list[Call]:
        """What it calls."""
        return calls_of(self.runs)

    @functools.cached_property
    def placement(self) -> Placement | None:
        """Where `engine="auto"` runs it, or would if it were bridged; None if that is not its to decide."""
        is_auto = self.where == "caller" or (self.where == "bridge" and self.engine == "auto")
        if not is_auto or self.kind == "tool":
            return None
        return placement_of(self.runs[1] if isinstance(self.runs, tuple) else self.runs)

    @property
    def place(self) -> Place:
        """Where it is defined."""
        if self.kind == "module" and not isinstance(self.runs, tuple):
            return place_of(self.runs)
        return place_of(self.runs[0] if isinstance(self.runs, tuple) else self.runs)


def programs_of_app(app: Any, prefix: str = "") -> Iterator[Program]:
    """The functions behind an app's routes, those of apps in it too."""
    for route in getattr(app, "routes", ()):
        path = prefix + str(getattr(route, "path", ""))
        function = plain_function(getattr(route, "endpoint", None))
        if function is None:
            yield from programs_of_app(route, path)
        elif is_users(function):
            where: Where = "loop" if is_coroutine_function(function) else "threads"
            why = "an async route" if where == "loop" else "a sync route, in the server's threads"
            yield Program(path, "route", function, where, "", why, function)


def program_of(function: Any, name: str) -> Program:
    """A function as a program."""
    plain = plain_function(function)
    name = name.rpartition(":")[2] or name
    if hasattr(function, MARK):
        sync = getattr(function, "__wrapped__", function)
        return Program(name, "function", sync, "bridge", getattr(function, MARK), "it is wrapped", function)
    if inspect.isasyncgenfunction(plain):
        return Program(name, "function", function, "loop", "", "an async generator runs where it is iterated", function)
    if is_coroutine_function(plain or function):
        return Program(name, "function", function, "loop", "", "an async function runs where it is awaited", function)
    return Program(name, "function", function, "caller", "", "a sync function; await run(...) bridges it", function)


def programs_of_module(module: Any) -> Iterator[Program]:
    """A module's `forward` or own `aforward`, and its tools; submodules are read from there."""
    cls: Any = module if isinstance(module, type) else type(module)
    name = cls.__qualname__
    generated = getattr(getattr(cls, "aforward", None) or getattr(cls, "acall", None), MARK, None)
    sync, twin = _bound(module, "forward" if hasattr(cls, "forward") else "__call__"), _bound(module, "aforward")
    if generated is not None:
        why = f"@async_module(engine={generated!r}) made its aforward()"
        yield Program(name, "module", sync, "bridge", generated, why, module)
    elif _has_own_aforward(cls):
        yield Program(f"{name}.aforward", "module", twin, "loop", "", "its own aforward(), which is kept", module)
        if _is_the_users(cls, "forward"):
            yield Program(f"{name}.forward", "module", sync, "caller", "", "called synchronously", module)
    else:
        yield Program(name, "module", sync, "caller", "", "it has no aforward() of its own", module)
    where: Where = "bridge" if generated is not None else "loop" if _has_own_aforward(cls) else "caller"
    yield from tools_of(module, where, generated or "")


def _has_own_aforward(cls: type) -> bool:
    return hasattr(cls, "aforward") and is_counterpart(cls, "forward", "aforward")


def _is_the_users(cls: type, name: str) -> bool:
    return is_users(plain_function(getattr(cls, name, None)))


def _bound(module: Any, name: str) -> Any:
    cls = module if isinstance(module, type) else type(module)
    function = vars(module).get(name) if not isinstance(module, type) else None
    if function is not None:  # patched in on the instance, as optimizers do
        return function
    function = getattr(cls, name, None)
    return (function, cls) if isinstance(module, type) else getattr(function, "__get__", lambda _: function)(module)


def tools_of(module: Any, where: Where, engine: str) -> Iterator[Program]:
    """The sync functions that agents in a module's tree have as tools."""
    if not isinstance(module, dspy.Module):
        return
    seen: set[int] = set()
    for _, part in [("", module), *module.named_sub_modules()]:
        tools = vars(part).get("tools")
        for tool in tools.values() if isinstance(tools, dict) else ():
            function = getattr(tool, "func", None)
            plain = plain_function(function)
            if plain is None or id(plain) in seen or is_coroutine_function(plain) or not is_users(plain):
                continue
            seen.add(id(plain))
            yield Program(getattr(tool, "name", plain.__name__), "tool", function, where, engine, "a tool", part)
