"""What an expression in the source stands for, as far as that can be told without running it.

Names are looked up where the function would: in its variables, closure, globals. Attributes are read from the
instances that exist, and from what `__init__` assigns where only a class is known. No code of the user's is run:
no property, no `__getattr__`, no call.
"""

from __future__ import annotations

import ast
import builtins
import concurrent.futures
import functools
import inspect
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import dspy

from .imports import MISSING, bound_by
from .sources import FunctionNode, is_readable, plain_function, tree_of

__all__ = ["Known", "Local", "Made", "Many", "Method", "Scope", "Value", "attribute", "class_of", "element", "length"]


@dataclass(frozen=True, eq=False)
class Known:
    """An object that exists."""

    value: Any


@dataclass(frozen=True, eq=False)
class Made:
    """An instance that the code will make."""

    cls: type
    call: ast.Call | None = None


@dataclass(frozen=True, eq=False)
class Many:
    """A container of such values."""

    of: Value | None


@dataclass(frozen=True, eq=False)
class Method:
    """A function with what it is bound to."""

    function: Any
    owner: Value


@dataclass(frozen=True, eq=False)
class Local:
    """A function or lambda defined inside the function that is read."""

    node: FunctionNode
    scope: Scope


@dataclass(frozen=True, eq=False)
class Parent:
    """`super()`."""

    owner: Value
    after: type


Value = Known | Made | Many | Method | Local | Parent

_MAKERS: Mapping[Any, type] = {
    threading.Lock: type(threading.Lock()),
    threading.RLock: type(threading.RLock()),
    sqlite3.connect: sqlite3.Connection,
    concurrent.futures.ThreadPoolExecutor.submit: concurrent.futures.Future,
    concurrent.futures.ProcessPoolExecutor.submit: concurrent.futures.Future,
}
"""Functions that make an instance of a class."""


@dataclass
class Scope:
    """The names that a function sees."""

    function: Any  # a FunctionType, which has a __get__ that checkers apply to the attribute
    names: dict[str, Value | None] = field(default_factory=dict)
    outer: Scope | None = None
    imported: set[str] = field(default_factory=set)

    def look_up(self, name: str) -> Value | None:
        """The value of a name; None if it can't be told."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return scope.names[name]
            scope = scope.outer
        code = self.function.__code__
        if name in code.co_freevars and self.function.__closure__ is not None:
            try:
                return Known(self.function.__closure__[code.co_freevars.index(name)].cell_contents)
            except ValueError:
                return None
        if name in code.co_varnames or name in code.co_cellvars:
            return None  # a variable that nothing has been found about
        if name in self.function.__globals__:
            return Known(self.function.__globals__[name])
        return Known(getattr(builtins, name)) if hasattr(builtins, name) else None

    def bind_imports(self, node: ast.Import | ast.ImportFrom) -> None:
        """Bind the names of an import statement in the function."""
        for name, value in bound_by(node, self.function.__globals__):
            self.names[name] = None if value is MISSING else Known(value)
            self.imported.add(name)

    def is_imported_here(self, name: str) -> bool:
        """Whether the name is one of these: then it is looked up anew in each run."""
        return name in self.imported or (self.outer is not None and self.outer.is_imported_here(name))

    def resolve(self, node: ast.AST | None) -> Value | None:
        """The value of an expression; None if it can't be told."""
        read = None if node is None else _READERS.get(type(node))
        return read(self, node) if read is not None else None

    def parameters(self, node: FunctionNode, owner: Value | None) -> None:
        """Bind the parameters of the function: `self`, and those whose annotation is a class."""
        given = [*node.args.posonlyargs, *node.args.args]
        for argument in (*given, *node.args.kwonlyargs):
            annotated = self.resolve(argument.annotation)
            is_class = isinstance(annotated, Known) and isinstance(annotated.value, type)
            self.names[argument.arg] = Made(annotated.value) if is_class else None  # type: ignore[union-attr]
        if owner is not None and given:
            self.names[given[0].arg] = owner


def class_of(value: Value | None) -> type | None:
    """The class of the object that a value stands for."""
    if isinstance(value, Made):
        return value.cls
    return type(value.value) if isinstance(value, Known) else None


def element(value: Value | None) -> Value | None:
    """What is in a container."""
    if isinstance(value, Many):
        return value.of
    if isinstance(value, Known) and isinstance(value.value, (list, tuple, dict)) and value.value:
        items = value.value.values() if isinstance(value.value, dict) else value.value
        return Known(next(iter(items)))
    return None


def length(scope: Scope, node: ast.expr | None) -> int | None:
    """How many items an iterable has; None if it can't be told."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
        if node.func.id in ("enumerate", "list", "tuple", "sorted", "reversed"):
            return length(scope, node.args[0])
        if node.func.id == "range":
            values = [value.value for arg in node.args if isinstance(value := scope.resolve(arg), Known)]
            is_known = len(values) == len(node.args) and all(isinstance(value, int) for value in values)
            return len(range(*values)) if is_known else None
    if isinstance(node, (ast.List, ast.Tuple)):
        return None if any(isinstance(item, ast.Starred) for item in node.elts) else len(node.elts)
    value = scope.resolve(node)
    is_sized = isinstance(value, Known) and isinstance(value.value, (list, tuple, dict, set, range))
    return len(value.value) if is_sized else None  # type: ignore[union-attr]


def attribute(value: Value | None, name: str) -> Value | None:
    """The value of an attribute."""
    if isinstance(value, Parent):
        cls = class_of(value.owner)
        if cls is None or value.after not in cls.__mro__:
            return None
        return _from_classes(cls.__mro__[cls.__mro__.index(value.after) + 1 :], name, value.owner)
    if isinstance(value, Made):
        return _made_attributes(value.cls).get(name) or _from_classes(value.cls.__mro__, name, value)
    if isinstance(value, Many):
        return Method(name, value)
    if not isinstance(value, Known):
        return None
    known = value.value
    if isinstance(known, ModuleType):
        try:
            return Known(getattr(known, name))
        except Exception:
            return None
    if isinstance(known, type):
        return _from_classes(known.__mro__, name, None)
    if known is dspy.settings and name == "lm":
        return Made(dspy.BaseLM) if known.lm is None else Known(known.lm)
    own = inspect.getattr_static(known, "__dict__", None)
    own = known.__dict__ if own is not None and not isinstance(known, FunctionType) else {}
    return Known(own[name]) if name in own else _from_classes(type(known).__mro__, name, value)


def _from_classes(classes: tuple[type, ...], name: str, owner: Value | None) -> Value | None:
    for cls in classes:
        if name not in vars(cls):
            continue
        raw = vars(cls)[name]
        if isinstance(raw, staticmethod):
            return Known(raw.__func__)
        if isinstance(raw, classmethod):
            return Method(raw.__func__, Known(cls))
        if isinstance(raw, property):
            return None
        if callable(raw) and owner is not None and not isinstance(raw, type):
            return Method(raw, owner)
        return Known(raw)
    return None


_being_read: set[type] = set()


@functools.cache
def _made_attributes(cls: type) -> dict[str, Value]:
    """What `__init__` assigns to `self`, for a class of the user's."""
    found: dict[str, Value] = {}
    if cls in _being_read:
        return found
    _being_read.add(cls)
    try:
        for base in reversed(cls.__mro__):
            function = plain_function(vars(base).get("__init__"))
            node = tree_of(function) if function is not None and is_readable(function) else None
            if function is None or node is None or isinstance(node, ast.Lambda):
                continue
            scope = Scope(function)
            scope.parameters(node, Made(cls))
            for statement in ast.walk(node):
                if isinstance(statement, (ast.Assign, ast.AnnAssign)):
                    _assign(scope, statement, found)
                elif isinstance(statement, (ast.Import, ast.ImportFrom)):
                    scope.bind_imports(statement)
    finally:
        _being_read.discard(cls)
    return found


def _assign(scope: Scope, statement: ast.Assign | ast.AnnAssign, found: dict[str, Value]) -> None:
    value = scope.resolve(statement.value)
    if value is None and isinstance(statement, ast.AnnAssign):
        annotated = scope.resolve(statement.annotation)
        value = Made(annotated.value) if isinstance(annotated, Known) and isinstance(annotated.value, type) else None
    for target in statement.targets if isinstance(statement, ast.Assign) else [statement.target]:
        if isinstance(target, ast.Name):
            scope.names[target.id] = value
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and value is not None:
            found[target.attr] = value


# Expressions


def _call(scope: Scope, node: ast.Call) -> Value | None:
    if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
        parts = scope.function.__qualname__.split(".")
        owner = scope.look_up(scope.function.__code__.co_varnames[0]) if scope.function.__code__.co_argcount else None
        cls = class_of(owner)
        after = next((c for c in cls.__mro__ if c.__name__ == parts[-2]), None) if cls and len(parts) > 1 else None
        return Parent(owner, after) if owner is not None and after is not None else None
    callee = scope.resolve(node.func)
    if isinstance(callee, Method) and isinstance(callee.function, str):
        return element(callee.owner) if callee.function in ("pop", "get", "values", "items", "copy") else None
    function = callee.function if isinstance(callee, Method) else callee.value if isinstance(callee, Known) else None
    made: type | None = next((cls for maker, cls in _MAKERS.items() if maker is function), None)
    if made is not None:
        return Made(made, node)
    if isinstance(callee, Known) and isinstance(callee.value, type):
        return Made(callee.value, node)
    returned = inspect.getattr_static(function, "__annotations__", {}) if isinstance(function, FunctionType) else {}
    result = returned.get("return") if isinstance(returned, dict) else None
    if isinstance(result, str) and isinstance(function, FunctionType):
        result = function.__globals__.get(result)
    return Made(result, node) if isinstance(result, type) else None


def _either(scope: Scope, *nodes: ast.expr) -> Value | None:
    return next((value for node in nodes if (value := scope.resolve(node)) is not None), None)


def _subscript(scope: Scope, node: ast.Subscript) -> Value | None:
    container, index = scope.resolve(node.value), node.slice
    known: Any = container.value if isinstance(container, Known) else None
    if type(known) in (list, tuple, dict) and isinstance(index, ast.Constant):
        try:
            return Known(known[index.value])
        except (LookupError, TypeError):
            return None
    return container if isinstance(index, ast.Slice) else element(container)


_READERS: dict[type[ast.AST], Callable[[Scope, Any], Value | None]] = {
    ast.Name: lambda scope, node: scope.look_up(node.id),
    ast.Attribute: lambda scope, node: attribute(scope.resolve(node.value), node.attr),
    ast.Call: _call,
    ast.Constant: lambda scope, node: Known(node.value),
    ast.Subscript: _subscript,
    ast.NamedExpr: lambda scope, node: scope.resolve(node.value),
    ast.IfExp: lambda scope, node: _either(scope, node.body, node.orelse),
    ast.BoolOp: lambda scope, node: _either(scope, *node.values),
    ast.List: lambda scope, node: Many(_either(scope, *node.elts)),
    ast.Tuple: lambda scope, node: Many(_either(scope, *node.elts)),
    ast.Set: lambda scope, node: Many(_either(scope, *node.elts)),
    ast.Dict: lambda scope, node: Many(_either(scope, *node.values)),
    ast.ListComp: lambda scope, node: Many(scope.resolve(node.elt)),
    ast.GeneratorExp: lambda scope, node: Many(scope.resolve(node.elt)),
    ast.SetComp: lambda scope, node: Many(scope.resolve(node.elt)),
    ast.DictComp: lambda scope, node: Many(scope.resolve(node.value)),
    ast.Lambda: lambda scope, node: Local(node, scope),
}
