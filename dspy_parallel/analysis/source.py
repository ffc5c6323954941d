"""The syntax tree of a function, parsed once."""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import functools
import inspect
import linecache
import operator
import sys
import types
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

__all__ = ["ByCode", "Source", "lambda_of", "source_of"]

T = TypeVar("T")

PARSES = 3
"""Attempts. CPython up to 3.12 raises SystemError ("AST constructor recursion depth mismatch") now and then if two
threads parse at the same time."""


@dataclass(frozen=True, eq=False)
class Source:
    """What is known of a function's source.

    Attributes:
        node: Its syntax tree, with line numbers as in the file; None if there is none to be had.
        problem: Why there is none, in words.
        mangling: The class whose private names (`__name`) the function may use.
    """

    node: ast.FunctionDef | None
    problem: str = ""
    mangling: str = ""


class ByCode(Generic[T]):
    """What is known of code objects, each of its own: equal ones may be from different files."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[types.CodeType], T]] = {}

    def get(self, code: types.CodeType, default: Any = None) -> T | Any:
        """What is known of it."""
        known = self._known.get(id(code))
        return known[1] if known is not None else default

    def set(self, code: types.CodeType, value: T) -> T:
        """Remember something for as long as the code exists; return it."""
        key = id(code)
        self._known[key] = weakref.ref(code, lambda _: self._known.pop(key, None)), value
        return value


_sources: ByCode[Source] = ByCode()


def source_of(function: types.FunctionType, *, any_kind: bool = False) -> Source:
    """The source of a function, from a file, a notebook cell, or whatever else linecache knows.

    That of generators and coroutine functions is given only for any kind: their calls do not run their code.
    """
    code = function.__code__
    if code.co_flags & _SUSPENDED and not any_kind:
        return Source(None, f"{code.co_name} is a generator or coroutine function")
    module = str(function.__globals__.get("__name__", ""))
    if module.partition(".")[0] in sys.stdlib_module_names:
        return Source(None, f"{function.__qualname__} may have effects")
    source = _sources.get(code)
    return source if source is not None else _sources.set(code, _read(code, function.__qualname__))


_lambdas: ByCode[ast.Lambda | None] = ByCode()
_MISSING: Any = object()


def lambda_of(code: types.CodeType) -> ast.Lambda | None:
    """The syntax tree of a lambda. Those that do the same on the same lines are not told apart."""
    known = _lambdas.get(code, _MISSING)
    return known if known is not _MISSING else _lambdas.set(code, _find_lambda(code))


def _find_lambda(code: types.CodeType) -> ast.Lambda | None:
    try:
        tree = _file(tuple(linecache.getlines(code.co_filename)))
    except (SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
            function = ast.FunctionDef("around", _NO_ARGUMENTS, [ast.Return(node)], [])
            if _fits(ast.copy_location(function, node), code, ""):
                return node
    return None


@functools.lru_cache(maxsize=16)
def _file(lines: tuple[str, ...]) -> ast.Module:
    return _parsed("".join(lines))


_NO_ARGUMENTS = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])


_SUSPENDED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _read(code: types.CodeType, qualname: str) -> Source:
    lines = linecache.getlines(code.co_filename)
    if not lines:
        return Source(None, f"there is no source of {code.co_name}")
    if code.co_name == "<lambda>" and (found := lambda_of(code)) is not None:
        body = ast.copy_location(ast.Return(found.body), found.body)
        return Source(ast.copy_location(ast.FunctionDef(code.co_name, found.args, [body], []), found))
    try:
        block = inspect.getblock(lines[code.co_firstlineno - 1 :])
        # Not dedented, which would change strings that go over several lines.
        tree = _parsed("if 1:\n" + "".join(block) if block[0][:1].isspace() else "\n" + "".join(block))
    except (SyntaxError, IndexError, ValueError):
        return Source(None, f"the source of {code.co_name} cannot be read")
    ast.increment_lineno(tree, code.co_firstlineno - 2)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == code.co_name:
            parts = qualname.split(".")
            cls = parts[-2] if len(parts) > 1 and parts[-2] != "<locals>" else ""
            if not _fits(node, code, cls):
                return Source(None, f"the source of {code.co_name} has changed since it was imported")
            return Source(cast("ast.FunctionDef", node), mangling=cls.lstrip("_"))
    return Source(None, f"the source of {code.co_name} cannot be found")


def _parsed(text: str) -> ast.Module:
    for _ in range(PARSES):
        try:
            return ast.parse(text)
        except SystemError:
            continue
    raise SyntaxError(f"not parsed in {PARSES} attempts")


def _fits(node: ast.FunctionDef | ast.AsyncFunctionDef, code: types.CodeType, mangling: str) -> bool:
    """Whether the tree is that of the code: a file may have changed since it was imported."""
    function = copy.copy(node)
    function.decorator_list = []
    scope: ast.stmt = function
    if mangling:
        scope = ast.ClassDef(mangling, bases=[], keywords=[], body=[scope], decorator_list=[])
    free = [name for name in code.co_freevars if name != "__class__"]
    if free:
        around = ast.arguments(
            posonlyargs=[], args=[ast.arg(name) for name in free], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        scope = ast.FunctionDef("around", around, [scope], [])
    try:
        tree = ast.fix_missing_locations(ast.Module([scope], []))
        compiled = compile(tree, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    except (SyntaxError, ValueError, TypeError):
        return False
    return any(_is_same(each, code) for each in _codes(compiled) if each.co_name == code.co_name)


_FUTURE = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two constants are the same, or two pieces of code do the same."""
    if type(one) is not type(other):
        return False
    if isinstance(one, types.CodeType):
        is_alike = all(getattr(one, part) == getattr(other, part) for part in _PARTS)
        is_alike = is_alike and not (one.co_flags ^ other.co_flags) & ~inspect.CO_NESTED
        is_alike = is_alike and (one.co_code == other.co_code or _steps(one) == _steps(other))
        return is_alike and _is_same(one.co_consts, other.co_consts)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, str):
        # In Python 3.10 the name of a function within says what is around all of them: not the same here.
        return bool(one.rpartition(".<locals>.")[2] == other.rpartition(".<locals>.")[2])
    return one == other if isinstance(one, frozenset) else repr(one) == repr(other)


def _steps(code: types.CodeType) -> list[tuple[str, Any]]:
    """What the code does, however a method is called: that depends on what the file imports."""
    steps: list[tuple[str, Any]] = []
    for each in dis.get_instructions(code):
        if each.opname not in _NOT_STEPS:
            value = None if each.opcode in _JUMPS else each.arg if each.opcode in dis.hasconst else each.argval
            steps.append((_SAME_STEPS.get(each.opname, each.opname), value))
    return steps


_NOT_STEPS = frozenset(["EXTENDED_ARG", "PUSH_NULL", "PRECALL", "NOP"])
_SAME_STEPS = {"LOAD_METHOD": "LOAD_ATTR", "CALL_METHOD": "CALL_FUNCTION"}
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
_PARTS = ("co_names", "co_varnames", "co_freevars", "co_cellvars", "co_argcount")
