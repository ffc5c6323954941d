"""Reads a program's source, and that of its helpers, for every call that it makes and its circumstances."""

from __future__ import annotations

import ast
import asyncio
import inspect
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import dspy

from .findings import Place
from .sources import FunctionNode, is_readable, plain_function, tree_of
from .values import Known, Local, Made, Method, Scope, Value, class_of, element, length

__all__ = ["Call", "read"]

_DEPTH = 20
_HOLDERS: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Semaphore,
)
_WAITING = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_LEAVING = (ast.Break, ast.Continue, ast.Return)


@dataclass(frozen=True)
class Call:
    """A call somewhere in a program.

    Attributes:
        place: The line of the call.
        node: Its syntax tree.
        callee: What is called; None if it can't be told.
        text: What is called, as written.
        is_awaited: Whether its result is awaited at once.
        receiver: What it is a method of, if the call is written as one.
        locks: Locks that are held meanwhile: what is written, and where.
        swallowed: `except:` clauses around the call that swallow a cancel.
        repeats: How often it is made, by the loops around it; None if that can't be told.
        width: How many of these can be under way at the same time; None if that can't be told.
        through: The lines that lead here.
        module: On the way, the outermost synchronous call of a module of the user's: what is written, and where.
        scope: The names that the calling code sees.
    """

    place: Place
    node: ast.Call
    callee: Value | None
    text: str
    is_awaited: bool
    receiver: Value | None
    locks: tuple[tuple[str, Place], ...]
    swallowed: tuple[Place, ...]
    repeats: int | None
    width: int | None
    through: tuple[Place, ...]
    module: tuple[str, Place] | None
    scope: Scope


@dataclass(frozen=True)
class _Circumstances:
    locks: tuple[tuple[str, Place], ...] = ()
    swallowed: tuple[Place, ...] = ()
    repeats: int | None = 1
    width: int | None = 1
    through: tuple[Place, ...] = ()
    module: tuple[str, Place] | None = None


def read(program: Any) -> list[Call]:
    """All calls that a function, or a method of an instance or class, makes, also through helpers that can be read.

    Args:
        program: A function; a bound method; or a pair of a function and the class that its first argument is of.
    """
    owner: Value | None = None
    if isinstance(program, tuple):
        program, cls = program
        owner = Made(cls)
    elif isinstance(program, MethodType):
        owner = Known(program.__self__)
    elif not isinstance(program, FunctionType) and plain_function(program) is None:
        owner, program = Known(program), inspect.getattr_static(type(program), "__call__", None)
    function = plain_function(program)
    calls: list[Call] = []
    if function is not None and is_readable(function):
        _Reader(calls, set()).enter(function, owner, _Circumstances())
    return calls


@dataclass
class _Reader(ast.NodeVisitor):
    calls: list[Call]
    seen: set[Any]
    scope: Scope = field(init=False)
    now: _Circumstances = field(default_factory=_Circumstances)
    awaited: set[int] = field(default_factory=set)
    is_async: bool = False

    def enter(self, function: FunctionType, owner: Value | None, now: _Circumstances) -> None:
        """Read a function's body."""
        node = tree_of(function)
        if node is not None:
            scope = Scope(function)
            scope.parameters(node, owner)
            self.read_body(node, scope, (function.__code__, class_of(owner)), now)

    def read_body(self, node: FunctionNode, scope: Scope, key: Any, now: _Circumstances) -> None:
        key = (key, bool(now.locks), bool(now.swallowed), now.repeats, now.width)
        if key in self.seen or len(now.through) > _DEPTH:
            return
        self.seen.add(key)
        reader = _Reader(self.calls, self.seen)
        reader.scope, reader.now = scope, now
        reader.is_async = isinstance(node, ast.AsyncFunctionDef) or (isinstance(node, ast.Lambda) and self.is_async)
        reader.visit_all(node.body if isinstance(node.body, list) else [node.body])

    def place(self, node: ast.AST) -> Place:
        function = self.scope.function
        return Place(function.__code__.co_filename, getattr(node, "lineno", 1), function.__qualname__)

    def visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    # Names

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.scope.names[node.name] = Local(node, self.scope)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Who knows where it runs; where that is known, see `visit_Call`."""

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.scope.names[node.name] = None

    def bind(self, target: ast.AST, value: Value | None) -> None:
        if isinstance(target, ast.Name):
            self.scope.names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            for part in target.elts:
                self.bind(part, element(value))

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        value = self.scope.resolve(node.value)
        for target in node.targets:
            self.bind(target, value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.bind(node.target, self.scope.resolve(node.value))

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.bind(node.target, self.scope.resolve(node.value))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.scope.bind_imports(node)

    visit_ImportFrom = visit_Import

    # Loops

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.bind(node.target, element(self.scope.resolve(node.iter)))
        before = self.now
        self.repeat(length(self.scope, node.iter), node.body)
        self.visit_all(node.body)
        self.now = _replaced(self.now, repeats=before.repeats, width=before.width)
        self.visit_all(node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        before = self.now
        self.repeat(None, [node.test, *node.body])
        self.visit_all([node.test, *node.body])
        self.now = _replaced(self.now, repeats=before.repeats, width=before.width)
        self.visit_all(node.orelse)

    def visit_comprehension_of(self, node: ast.AST) -> None:
        before = self.now
        parts = [getattr(node, name) for name in ("key", "value", "elt") if hasattr(node, name)]
        for clause in getattr(node, "generators", ()):
            self.visit(clause.iter)
            self.bind(clause.target, element(self.scope.resolve(clause.iter)))
            self.repeat(None if clause.ifs else length(self.scope, clause.iter), parts)
            self.visit_all(clause.ifs)
        self.visit_all(parts)
        self.now = before

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_of

    def repeat(self, times: int | None, body: Sequence[ast.AST]) -> None:
        """What is visited now is run so many times: side by side, if async code does not wait for each turn."""
        inside = [type(part) for node in body for part in ast.walk(node)]
        if any(kind in _LEAVING for kind in inside):
            times = None
        now = self.now
        is_concurrent = self.is_async and not any(kind in _WAITING for kind in inside)
        width = product(now.width, times) if is_concurrent else now.width
        self.now = _replaced(now, repeats=product(now.repeats, times), width=width)

    def visit_If(self, node: ast.If | ast.IfExp | ast.Match) -> None:
        """In a loop it is not known how often a branch is taken."""
        before = self.now
        if before.repeats != 1:
            self.now = _replaced(before, repeats=None, width=None if before.width != 1 else 1)
        self.generic_visit(node)
        self.now = _replaced(self.now, repeats=before.repeats, width=before.width)

    visit_IfExp = visit_Match = visit_If

    # Circumstances

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        before = self.now
        for item in node.items:
            if isinstance(node, ast.AsyncWith):
                self.awaited.add(id(item.context_expr))
            self.visit(item.context_expr)
            value = self.scope.resolve(item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
            if isinstance(node, ast.AsyncWith):
                self.now = _replaced(self.now, width=_admitted(value, self.now.width))
            elif issubclass(class_of(value) or object, _HOLDERS):
                self.hold(item.context_expr, self.place(item.context_expr))
        self.visit_all(node.body)
        self.now = before

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        before = self.now
        catching = next((handler for handler in node.handlers if self.catches_cancel(handler.type)), None)
        if catching is not None and not any(isinstance(part, ast.Raise) for part in ast.walk(catching)):
            self.now = _replaced(before, swallowed=(*before.swallowed, self.place(catching)))
        self.visit_all(node.body)
        self.now = _replaced(self.now, swallowed=before.swallowed)
        self.visit_all([*node.handlers, *node.orelse, *node.finalbody])

    def catches_cancel(self, node: ast.expr | None) -> bool:
        if isinstance(node, ast.Tuple):
            return any(self.catches_cancel(item) for item in node.elts)
        caught: Any = self.scope.resolve(node) if node is not None else Known(BaseException)
        kinds = getattr(caught, "value", None)
        return any(
            isinstance(kind, type) and issubclass(asyncio.CancelledError, kind)
            for kind in (kinds if isinstance(kinds, tuple) else (kinds,))
        )

    def hold(self, lock: ast.expr, place: Place) -> None:
        self.now = _replaced(self.now, locks=(*self.now.locks, (ast.unparse(lock), place)))

    def release(self, lock: ast.expr) -> None:
        text = ast.unparse(lock)
        self.now = _replaced(self.now, locks=tuple(held for held in self.now.locks if held[0] != text))

    # Calls

    def visit_Await(self, node: ast.Await) -> None:
        self.awaited.add(id(node.value))
        self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self.visit_all([node.func, *node.args, *node.keywords])
        callee = self.scope.resolve(node.func)
        receiver = self.scope.resolve(node.func.value) if isinstance(node.func, ast.Attribute) else None
        place = self.place(node)
        is_awaited = id(node) in self.awaited
        now = self.now
        text = ast.unparse(node.func)
        if text.endswith(".__call__") and isinstance(receiver, (Known, Made)) and not _is_class(receiver):
            callee, text = receiver, text.removesuffix(".__call__")
        around = (now.locks, now.swallowed, now.repeats, now.width, now.through, now.module)
        self.calls.append(Call(place, node, callee, text, is_awaited, receiver, *around, self.scope))
        if isinstance(node.func, ast.Attribute) and issubclass(class_of(receiver) or object, _HOLDERS):
            if node.func.attr == "acquire":
                self.hold(node.func.value, place)
            elif node.func.attr == "release":
                self.release(node.func.value)
        deeper = _replaced(now, through=(*now.through, place))
        if isinstance(callee, Known) and any(callee.value is caller for caller in (map, filter, sorted, max, min)):
            self.now = deeper
            is_of_one = callee.value is map and len(node.args) == 2
            self.repeat(length(self.scope, node.args[1]) if is_of_one else None, [])
            self.follow_arguments(node, self.now)
            self.now = now
        elif isinstance(callee, Local):
            # A generator's body runs when it is consumed, which is mostly here; a coroutine's when it is awaited.
            self.follow_local(callee, deeper)
        elif callee is not None:
            self.follow(callee, deeper, (text, place))

    def follow_arguments(self, node: ast.Call, now: _Circumstances) -> None:
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            value = self.scope.resolve(argument)
            if isinstance(value, Local):
                self.follow_local(value, now)
            elif value is not None and not isinstance(value, Made):
                self.follow(value, now, (ast.unparse(argument), self.place(node)))

    def follow_local(self, local: Local, now: _Circumstances) -> None:
        scope = Scope(local.scope.function, {}, local.scope)
        scope.parameters(local.node, None)
        self.read_body(local.node, scope, id(local.node), now)

    def follow(self, callee: Value, now: _Circumstances, written: tuple[str, Place]) -> None:
        """Read what is called, if it is the user's own code."""
        cls = class_of(callee)
        if cls is not None and issubclass(cls, dspy.Module):
            forward = plain_function(getattr(cls, "forward", None))
            if forward is not None and is_readable(forward):
                self.enter(forward, callee, _replaced(now, module=now.module or written))
            return
        if isinstance(callee, Method) and not isinstance(callee.function, str):
            owner = class_of(callee.owner)
            name = getattr(callee.function, "__name__", "")
            if name == "acall" and owner is not None and issubclass(owner, dspy.Module):
                callee = Method(getattr(owner, "aforward", None), callee.owner)
            function = plain_function(callee.function)
            if function is not None and is_readable(function):
                self.enter(function, callee.owner, now)
        elif isinstance(callee, Known) and not isinstance(callee.value, type):
            value = callee.value
            bound = Known(value.__self__) if inspect.ismethod(value) else None
            function = plain_function(value)
            if function is not None and is_readable(function):
                self.enter(function, bound, now)
            elif cls is not None and function is None and "__call__" in vars(cls):
                call = plain_function(vars(cls)["__call__"])
                if call is not None and is_readable(call):
                    self.enter(call, callee, now)


def product(one: int | None, other: int | None) -> int | None:
    """Of two numbers that may not be known."""
    return None if one is None or other is None else one * other


def _admitted(context: Value | None, width: int | None) -> int | None:
    """How many get into an `async with` at a time. Most that are entered so are there to limit that."""
    if isinstance(context, Known) and isinstance(context.value, asyncio.Semaphore):
        return None if width is None else min(width, context.value._value)
    return 1


def _is_class(value: Known | Made) -> bool:
    return isinstance(value, Known) and isinstance(value.value, type)


def _replaced(now: _Circumstances, **changes: Any) -> _Circumstances:
    given: dict[str, Any] = {**vars(now), **changes}
    return _Circumstances(**given)
