"""What kind of program an object is: the one question that `diagnose()`, doctor and compare begin with."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import FunctionType, ModuleType
from typing import Any, Literal

import dspy

from ..callables import is_generator_function
from ..errors import TargetError

__all__ = ["Target", "as_target", "targets_in"]

Kind = Literal["module", "builder", "graph", "app", "function"]


@dataclass(frozen=True)
class Target:
    """A program, and what it is called.

    Attributes:
        name: As it was named.
        kind: `"module"` (a class or an instance), `"builder"` (a `StateGraph`), `"graph"` (compiled), `"app"` (FastAPI,
            or whatever has Starlette's routes) or `"function"`.
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
            TargetError: If it is a class that cannot be made without arguments, or a generator function.
        """
        if self.kind == "builder":
            return self.value.compile()
        if self.kind == "function" and is_generator_function(self.value):
            raise TargetError(
                f"{getattr(self.value, '__qualname__', self.name)} is a generator function, whose code runs only as "
                "far as somebody takes its items. Name a function that takes them."
            )
        if not isinstance(self.value, type):
            return self.value
        try:
            return self.value()
        except TypeError as error:
            raise TargetError(
                f"{self.name} is a class that cannot be made without arguments ({error}). Name an instance, or a "
                "function that returns one: 'file.py:make()'."
            ) from error
        except Exception as error:
            raise TargetError(f"{self.name} cannot be made: {type(error).__name__}: {error}") from error


def as_target(value: Any, name: str = "") -> Target:
    """The kind of program that an object is.

    Raises:
        TargetError: If it is none.
    """
    name = name or str(getattr(value, "__qualname__", "")) or f"<{type(value).__qualname__}>"
    if isinstance(value, dspy.Module) or (isinstance(value, type) and issubclass(value, dspy.Module)):
        return Target(name, "module", value)
    if isinstance(value, _class("langgraph.graph.state", "StateGraph")):
        return Target(name, "builder", value)
    if isinstance(value, _class("langgraph.pregel", "Pregel")):
        return Target(name, "graph", value)
    if isinstance(value, (*_class("starlette.applications", "Starlette"), *_class("starlette.routing", "Router"))):
        return Target(name, "app", value)
    if callable(value) and not isinstance(value, type):
        return Target(name, "function", value)
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else f"an object of type {type(value).__name__}"
    raise TargetError(
        f"{name} is {kind}, which is no program. Name a dspy.Module (class or instance), a LangGraph (StateGraph or "
        "compiled), a FastAPI app or a function."
    )


def targets_in(module: ModuleType) -> list[Target]:
    """The programs that a module makes, largest first: graphs, apps, modules, async functions and wrapped ones.

    Sync functions are none by themselves: who calls them decides where they run. They are read from there.
    """
    found: list[Target] = []
    for name, value in vars(module).items():
        if isinstance(value, (type, FunctionType)) and value.__module__ != module.__name__:
            continue  # imported
        try:
            target = as_target(value, name)
        except TargetError:
            continue
        if target.kind == "module" and not _is_of_interest(value):
            continue
        is_function = target.kind == "function"
        if not is_function or (isinstance(value, FunctionType) and _runs_by_itself(value)):
            found.append(target)
    found.sort(key=lambda target: _ORDER.index(target.kind))
    builders = [getattr(target.value, "builder", None) for target in found]
    made = [type(target.value) for target in found]
    return [each for each in found if not any(each.value is other for other in (*builders, *made))]


_ORDER: tuple[Kind, ...] = ("graph", "builder", "app", "module", "function")


def _is_of_interest(module: Any) -> bool:
    """Of DSPy's own modules, only agents can have something wrong; a class without a forward() is nothing yet."""
    cls = module if isinstance(module, type) else type(module)
    if not str(cls.__module__).startswith("dspy."):
        return hasattr(cls, "forward") or hasattr(cls, "aforward")
    return not isinstance(module, type) and "tools" in vars(module)


def _runs_by_itself(function: FunctionType) -> bool:
    flags = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    is_wrapped = hasattr(function, "__bridge_engine__") or hasattr(function, "__overlap_original__")
    return is_wrapped or bool(inspect.unwrap(function).__code__.co_flags & flags)


def _class(module: str, name: str) -> tuple[type, ...]:
    """A class of a library, if anybody has imported it: nothing else can be an instance of it."""
    found = getattr(sys.modules.get(module), name, None)
    return (found,) if isinstance(found, type) else ()
