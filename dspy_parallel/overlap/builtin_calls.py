"""Calls of builtins: those that don't look at items keep them pending, those that take functions call them."""

from __future__ import annotations

import ast
import copy
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any

from . import attributes, calls, expressions, purity, targets
from .facts import MUTATORS
from .frame import Frame, LocalFunction, reachable
from .strands import Halted, Pending, Strand

__all__ = ["lazy", "method", "pure", "structural"]


def lazy(frame: Frame, callee: Any, node: ast.Call) -> Callable[[], Any] | None:
    """`any`, `all` and `next` of a generator expression stop at the first that decides: nothing behind is certain."""
    if not any(callee is known for known in (any, all, next)) or not node.args:
        return None
    if not isinstance(node.args[0], ast.GeneratorExp):
        if callee is next:
            raise Halted("`next` of an iterator is not understood")
        return None
    generator = node.args[0]

    def work(inner: Frame) -> Any:
        scope = Frame(inner.scout, inner.strand, {}, outer=inner, is_comprehension=True, depth=inner.depth)
        for value in _one_by_one(scope, generator, 0):
            if callee is next:
                return value
            if expressions.truth(scope, value) is (callee is any):
                return callee is any
        if callee is not next:
            return callee is all
        if len(node.args) > 1:
            return expressions.evaluate(inner, node.args[1])
        raise StopIteration

    return lambda: expressions.fork(frame, node, work, f"`{callee.__name__}`")


def _one_by_one(scope: Frame, node: ast.GeneratorExp, depth: int) -> Any:
    if depth == len(node.generators):
        yield expressions.evaluate(scope, node.elt)
        return
    clause = node.generators[depth]
    for item in expressions.iterate(scope, expressions.evaluate(scope, clause.iter)):
        targets.assign(scope, clause.target, item, comprehension=True)
        if all(expressions.truth(scope, expressions.evaluate(scope, condition)) for condition in clause.ifs):
            yield from _one_by_one(scope, node, depth + 1)


def structural(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Builtins that rearrange items without looking at them."""
    waits = any(type(arg) is Pending and not arg.done for arg in args)
    closed = any(type(arg) in purity.BOXES and not frame.strand.is_free(arg) for arg in args)
    if not waits and not closed:
        return _rearranged(frame, callee, [frame.force(arg) for arg in args], kwargs)

    def work(strand: Strand) -> Any:
        inner = frame.at(strand)
        known = [arg.at(strand) if isinstance(arg, LocalFunction) else arg for arg in args]
        return _rearranged(inner, callee, [strand.force(arg) for arg in known], kwargs)

    return frame.strand.fork(work, f"`{callee.__name__}(...)`", reachable([*args, *kwargs.values()]))


def _rearranged(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if callee in (map, filter):
        return _mapped(frame, callee, *args)
    if callee is getattr or callee is hasattr:
        return _attribute(frame, callee, args)
    if callee is type and len(args) == 1:
        return type(args[0])
    if callee is range:
        return range(*(frame.ready(arg) for arg in args))
    if callee is set:
        return set(frame.ready(expressions.iterate(frame, args[0]))) if args else set()
    if callee in (any, all):
        return frame.lift(f"`{callee.__name__}`", callee, *args)
    if callee is len:
        expressions.check_plain(args[0])
        frame.strand.touch(args[0])
        return len(args[0])
    if callee is dict:
        return _dict(frame, args, kwargs)
    if callee in (list, tuple):
        return callee(expressions.iterate(frame, args[0])) if args else callee()
    if callee is enumerate:
        start = frame.force(kwargs.get("start", args[1] if len(args) > 1 else 0))
        return list(enumerate(expressions.iterate(frame, args[0]), start))
    if callee is itertools.islice:
        return list(itertools.islice(expressions.iterate(frame, args[0]), *args[1:]))
    if callee in (zip, itertools.chain, reversed, iter):
        strict = {"strict": True} if kwargs.get("strict") else {}
        made = callee(*(expressions.iterate(frame, arg) for arg in args), **strict)
        return list(made)
    if callee is itertools.chain.from_iterable:
        return [item for part in expressions.iterate(frame, args[0]) for item in expressions.iterate(frame, part)]
    raise Halted(f"`{callee.__name__}` is not understood here")


def _dict(frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if args and isinstance(args[0], dict):
        frame.strand.touch(args[0])
        result.update(args[0])
    elif args:
        for pair in expressions.iterate(frame, args[0]):
            key, value = expressions.iterate(frame, pair)
            result[frame.ready(key)] = value
    return {**result, **kwargs}


def _attribute(frame: Frame, callee: Any, args: list[Any]) -> Any:
    owner, name = args[0], frame.ready(args[1])
    if callee is hasattr or len(args) > 2:
        if type(owner) not in purity.RECORDS:
            raise Halted(f"`{callee.__name__}` of {type(owner).__name__} is not understood")
        frame.strand.touch(owner)
        exists = name in owner._store
        if callee is hasattr:
            return exists or hasattr(type(owner), name)
        return attributes.get(frame, owner, name) if exists else args[2]
    return attributes.get(frame, owner, name)


def _mapped(frame: Frame, callee: Any, function: Any, *sequences: Any) -> list[Any]:
    columns = [expressions.iterate(frame, sequence) for sequence in sequences]
    if callee is map:
        return [calls.apply(frame, function, list(items), {}) for items in zip(*columns, strict=False)]
    answers = [item if function is None else calls.apply(frame, function, [item], {}) for item in columns[0]]
    return [item for item, answer in zip(columns[0], answers, strict=True) if expressions.truth(frame, answer)]


def method(frame: Frame, callee: types.BuiltinMethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A method of a builtin type."""
    owner: Any = callee.__self__
    name = callee.__name__
    if type(owner) not in purity.BOXES:
        return pure(frame, callee, args, kwargs)
    if name in purity.READERS.get(type(owner), ()):
        return _reading(frame, owner, name, args)
    if name not in MUTATORS:
        raise Halted(f"`{name}` of a {type(owner).__name__} is not understood")
    if name == "sort":
        return _sort(frame, owner, kwargs)

    def change(strand: Strand) -> Any:
        inner = frame.at(strand)
        given = _given(inner, owner, name, args)
        strand.touch(owner, writing=True)
        return getattr(owner, name)(*given, **kwargs)

    return frame.strand.fork(change, f"`.{name}()`", reachable([owner, *args]), [owner], finds=True)


def _given(frame: Frame, owner: Any, name: str, args: list[Any]) -> list[Any]:
    """The arguments of a method that changes a container, as far as they have to be known."""
    if name in ("append", "appendleft") and type(owner) is not set:
        return args
    if name == "insert":
        return [frame.ready(args[0]), args[1]]
    if name in ("extend", "extendleft", "update") or name.endswith("_update"):
        known = [frame.force(arg) for arg in args]
        known = [arg if isinstance(arg, dict) else expressions.iterate(frame, arg) for arg in known]
        return [frame.ready(arg) for arg in known] if type(owner) is set else known
    if name == "remove":
        frame.ready(owner)
    return [frame.ready(args[0]), *args[1:]] if args else args


def _reading(frame: Frame, owner: Any, name: str, args: list[Any]) -> Any:
    if name in ("copy", "items", "keys", "values", "get"):
        args = [frame.ready(args[0]), *args[1:]] if args else args

        def read() -> Any:
            value = getattr(owner, name)(*args)
            return list(value) if name in ("items", "keys", "values") else value

        return frame.touch(owner, read, f"`.{name}()`", writing=False)
    return frame.lift(f"`.{name}()`", lambda owner, *a: getattr(owner, name)(*a), owner, *args)


def _sort(frame: Frame, owner: list[Any], kwargs: dict[str, Any]) -> Any:
    def change() -> None:
        owner[:] = frame.ready(pure(frame, sorted, [list(owner)], kwargs))

    frame.ready(owner)
    return frame.touch(owner, change, "`.sort()`", writing=True)


def pure(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A function without effects, on values that are there."""
    key = frame.force(kwargs.get("key"))
    names = [name for name in kwargs if name != "key"]
    count = len(args)

    def work(*values: Any) -> Any:
        expressions.check_plain(*(value for value in values if not callable(value)))
        for value in values:
            if type(value) in (list, tuple):
                expressions.check_plain(*value)
        named = dict(zip(names, values[count:], strict=True))
        if callee is copy.deepcopy or callee is copy.copy:
            return copy.deepcopy(values[0])
        result = callee(*values[:count], **named)
        return list(result) if getattr(callee, "__module__", None) == "itertools" else result

    what = f"`{getattr(callee, '__name__', 'a call')}(...)`"
    if key is None:
        return frame.lift(what, work, *args, *(kwargs[name] for name in names))
    if not any(callee is known for known in (sorted, max, min)):
        raise Halted(f"{what} with a key is not understood")

    def keyed(strand: Strand) -> Any:
        inner = frame.at(strand)
        by = key.at(strand) if isinstance(key, LocalFunction) else key
        named = {name: inner.ready(kwargs[name]) for name in names}
        items = expressions.iterate(inner, args[0]) if count == 1 else args
        keys = [calls.apply(inner, by, [item], {}) for item in items]
        known = [inner.ready(one) for one in keys]
        for one in known:
            expressions.check_plain(one)
        order = sorted(range(len(items)), key=functools.partial(_pick, known), reverse=bool(named.get("reverse")))
        if callee is sorted:
            return [items[index] for index in order]
        if not items and "default" in named:
            return named["default"]
        return items[callee(range(len(items)), key=functools.partial(_pick, known))]

    return frame.strand.fork(keyed, what, reachable([*args, *kwargs.values()]))


def _pick(known: list[Any], index: int) -> Any:
    return known[index]
