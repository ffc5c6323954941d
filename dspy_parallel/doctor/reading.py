"""Reads a program's source, and that of its helpers, for every call that it makes and its circumstances."""

from __future__ import annotations

import ast
import inspect
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FunctionType, MethodType
from typing import Any

import dspy

from .findings import Place
from .sources import FunctionNode, is_readable, plain_function, tree_of
from .values import Known, Local, Made, Method, Scope, Value, class_of, element

__all__ = ["Call", "read"]

_DEPTH = 20
_HOLDERS: tuple[type, ...] = (
    type(threading.Lock()),
    type(threading.RLock()),
    threading.Condition,
    threading.Semaphore,
)


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
    through: tuple[Place, ...]
    module: tuple[str, Place] | None
    scope: Scope


@dataclass(frozen=True)
class _Circumstances:
    locks: tuple[tuple[str, Place], ...] = ()
    swallowed: tuple[Place, ...] = ()
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

    def enter(self, function: FunctionType, owner: Value | None, now: _Circumstances) -> None:
        """Read a function's body."""
        node = tree_of(function)
        if node is not None:
            scope = Scope(function)
            scope.parameters(node, owner)
            self.read_body(node, scope, (function.__code__, class_of(owner), bool(now.locks), bool(now.swallowed)), now)

    def read_body(self, node: FunctionNode, scope: Scope, key: Any, now: _Circumstances) -> None:
        if key in self.seen or len(now.through) > _DEPTH:
            return
        self.seen.add(key)
        reader = _Reader(self.calls, self.seen)
        reader.scope, reader.now = scope, now
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

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self.bind(node.target, element(self.scope.resolve(node.iter)))
        self.visit_all([*node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_comprehension_of(self, node: ast.AST) -> None:
        for clause in getattr(node, "generators", ()):
            self.visit(clause.iter)
            self.bind(clause.target, element(self.scope.resolve(clause.iter)))
            for condition in clause.ifs:
                self.visit(condition)
        for name in ("key", "value", "elt"):
            if hasattr(node, name):
                self.visit(getattr(node, name))

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_of

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
            if isinstance(node, ast.With) and issubclass(class_of(value) or object, _HOLDERS):
                held = (ast.unparse(item.context_expr), self.place(item.context_expr))
                self.now = _replaced(self.now, locks=(*self.now.locks, held))
        self.visit_all(node.body)
        self.now = before

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        before = self.now
        swallowing = [handler for handler in node.handlers if self.swallows(handler)]
        if swallowing:
            places = tuple(self.place(handler) for handler in swallowing)
            self.now = _replaced(before, swallowed=(*before.swallowed, *places))
        self.visit_all(node.body)
        self.now = before
        self.visit_all([*node.handlers, *node.orelse, *node.finalbody])

    def swallows(self, handler: ast.ExceptHandler) -> bool:
        caught = self.scope.resolve(handler.type) if handler.type is not None else Known(BaseException)
        is_all = isinstance(caught, Known) and caught.value is BaseException
        return is_all and not any(isinstance(part, ast.Raise) for part in ast.walk(handler))

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
        held = (now.locks, now.swallowed, now.through, now.module)
        self.calls.append(Call(place, node, callee, text, is_awaited, receiver, *held, self.scope))
        deeper = _replaced(now, through=(*now.through, place))
        if isinstance(callee, Known) and any(callee.value is caller for caller in (map, filter, sorted, max, min)):
            self.follow_arguments(node, deeper)
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
        self.read_body(local.node, scope, (id(local.node), bool(now.locks), bool(now.swallowed)), now)

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


def _replaced(now: _Circumstances, **changes: Any) -> _Circumstances:
    given: dict[str, Any] = {**vars(now), **changes}
    return _Circumstances(**given)
