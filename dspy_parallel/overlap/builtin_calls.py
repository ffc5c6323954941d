"""Calls of builtins: those that don't look at items keep them pending, those that take functions call them."""

from __future__ import annotations

import abc
import ast
import collections
import collections.abc
import copy
import enum
import functools
import types
from collections.abc import Callable
from typing import Any

from . import attributes, calls, contents, expressions, purity, regards, streams
from .facts import MUTATORS, facts_of
from .frame import Frame, LocalFunction, children, reachable
from .inert import SCALARS, is_known, runs_on_access
from .strands import Halted, Pending, Strand

__all__ = ["lazy", "method", "pure", "reading", "refuse_to_grow", "structural", "tell"]


def lazy(frame: Frame, callee: Any, node: ast.Call) -> Callable[[], Any] | None:
    """`any`, `all` and `next` of an iterator stop at the first that decides: nothing behind is certain."""
    if not any(callee is known for known in (any, all, next)) or not node.args:
        return None
    source = node.args[0]
    if not isinstance(source, (ast.GeneratorExp, ast.Call)):
        if callee is next:
            raise Halted("`next` of an iterator is not understood")
        return None

    def work(inner: Frame) -> Any:
        for value in streams.pull(inner, source):
            if callee is next:
                return value
            if expressions.truth(inner, value) is (callee is any):
                return callee is any
        if callee is not next:
            return callee is all
        if len(node.args) > 1:
            return expressions.evaluate(inner, node.args[1])
        raise StopIteration

    return lambda: expressions.fork(frame, node, work, f"`{callee.__name__}`")


def refuse_to_grow(frame: Frame, callee: Any, node: ast.Call) -> None:
    """An iterator may look at the very list that it makes longer."""
    owner = getattr(callee, "__self__", None)
    for source in node.args:
        if type(owner) in purity.BOXES and isinstance(source, (ast.GeneratorExp, ast.Call)):
            is_seen = any(owner is each for each in reachable(frame.values_of(facts_of(source).loads)))
            said = ast.dump(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if is_seen or any(ast.dump(part) == said for part in ast.walk(source) if isinstance(part, ast.Attribute)):
                raise Halted(f"`.{callee.__name__}()` of a container with what is made of it")


def tell(frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> None:
    """The main line prints or logs; the scout only sees to it that nobody's code is run by that."""
    if not _WAYS_TO_TELL.issuperset(kwargs):
        raise Halted("it is told to something of your own")

    def check(strand: Strand) -> None:
        for arg in (*args, *kwargs.values()):
            expressions.check_plain(*_known(strand.force(arg)))

    frame.strand.fork(check, "what is printed")


_WAYS_TO_TELL = frozenset(["sep", "end", "flush", "exc_info", "stacklevel", "category"])


def _known(value: Any) -> list[Any]:
    """A value, or what is in it, as far as it is there."""
    if type(value) is Pending:
        return _known(value.value) if value.done else []
    if not purity.is_box(type(value)):
        return [value]
    return [known for item in children(value) for known in _known(item)]


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
    if callee is getattr or callee is hasattr:
        return _attribute(frame, callee, args)
    if callee is type and len(args) == 1:
        return type(args[0])
    if callee is range:
        return range(*(frame.ready(arg) for arg in args))
    if callee is set:
        return _set(frame, *args)
    if callee in (any, all):
        return expressions.lift(frame, f"`{callee.__name__}`", callee, *args)
    if callee is len:
        if type(args[0]) not in (*purity.CONTAINERS, *purity.RECORDS, str, bytes, range):
            raise Halted(f"`len` of a {type(args[0]).__qualname__}")
        frame.strand.touch(args[0])
        return len(args[0])
    if callee is isinstance or callee is issubclass:
        _check_classes(frame.ready(args[1]))
    if callee in (isinstance, issubclass, callable):
        if runs_on_access(type(args[0])) or (callee is issubclass and not isinstance(args[0], type)):
            raise Halted(f"`{callee.__name__}` of a {type(args[0]).__qualname__}")
        return callee(*args)
    if callee is dict:
        return _dict(frame, args, kwargs)
    if callee in (list, tuple):
        return callee(contents.iterate(frame, args[0])) if args else callee()
    raise Halted(f"`{callee.__name__}` is not understood here")


def _set(frame: Frame, *args: Any) -> set[Any]:
    if args and type(args[0]) in (set, frozenset, *_DICTS):  # their items may end up in another order
        frame.strand.touch(args[0])
        expressions.check_plain(*args[0])
        return set(args[0])
    items = frame.ready(contents.iterate(frame, args[0])) if args else []
    expressions.check_plain(*items)
    return frame.scout.outside.made_set(items)


_DICTS = tuple(cls for cls in purity.BOXES if issubclass(cls, dict))


def _check_classes(classes: Any) -> None:
    """Refuse classes that decide by themselves what is an instance of theirs."""
    for cls in classes if type(classes) is tuple else (classes,):
        kind: Any = type(cls)
        if type(cls) is tuple:
            _check_classes(cls)
        elif (
            not isinstance(cls, (type, types.UnionType))
            or not (kind in (type, types.UnionType, enum.EnumMeta) or is_known(kind))
            or (kind is abc.ABCMeta and "__subclasshook__" in vars(cls) and not _is_abstract(cls))
        ):
            raise Halted("whether it is an instance is said by code of your own")


def _is_abstract(cls: Any) -> bool:
    return getattr(collections.abc, cls.__name__, None) is cls or is_known(cls)


def _dict(frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if args and type(args[0]) in _DICTS:
        frame.strand.touch(args[0])
        expressions.check_plain(*contents.keys_to_compare(args[0]))
        result.update(args[0])
    elif args:
        for pair in contents.iterate(frame, args[0]):
            key, value = contents.iterate(frame, pair)
            known = frame.ready(key)
            expressions.check_plain(known)
            result[known] = value
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


def method(frame: Frame, callee: types.BuiltinMethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A method of a builtin type."""
    owner: Any = callee.__self__
    name = callee.__name__
    if type(owner) not in purity.BOXES:
        return pure(frame, callee, args, kwargs)
    if name in purity.READERS.get(type(owner), ()):
        return reading(frame, owner, name, args)
    if name not in MUTATORS:
        raise Halted(f"`{name}` of a {type(owner).__name__} is not understood")
    if name == "sort":
        return _sort(frame, owner, kwargs)

    def change(strand: Strand) -> Any:
        inner = frame.at(strand)
        given = _given(inner, owner, name, args)
        strand.touch(owner, writing=True)
        inner.put_into(owner, *given)
        if type(owner) is set and (name == "pop" or any(type(each) in (set, frozenset) for each in given)):
            if name == "pop" and not frame.scout.outside.is_made_set(owner) and len(owner) > 1:
                raise Halted("the order in a set is only known when the program comes to it")
            frame.scout.outside.set_is_mixed(owner)
        return getattr(owner, name)(*given, **kwargs)

    return frame.strand.fork(change, f"`.{name}()`", reachable([owner, *args]), [owner], finds=True)


def _given(frame: Frame, owner: Any, name: str, args: list[Any]) -> list[Any]:
    """The arguments of a method that changes a container, as far as they have to be known."""
    given = _prepared(frame, owner, name, args)
    if type(owner) is not list or name == "remove":
        for each in given:
            if isinstance(each, dict):
                expressions.check_plain(*contents.keys_to_compare(each))
            elif isinstance(owner, (set, dict)) and name not in ("setdefault", "pop"):
                expressions.check_plain(each)
        if isinstance(owner, dict) and name in ("setdefault", "pop") and given:
            expressions.check_plain(given[0])
        expressions.check_plain(*(owner if name == "remove" else ()))
    return given


def _prepared(frame: Frame, owner: Any, name: str, args: list[Any]) -> list[Any]:
    if name in ("append", "appendleft") and type(owner) is not set:
        return args
    if name == "insert":
        return [frame.ready(args[0]), args[1]]
    if name in ("extend", "extendleft", "update") or name.endswith("_update"):
        known = [frame.force(arg) for arg in args]
        keep = (set, frozenset, *_DICTS) if type(owner) is set else _DICTS
        known = [arg if type(arg) in keep else contents.iterate(frame, arg) for arg in known]
        return [frame.ready(arg) for arg in known] if type(owner) is set else known
    if name == "remove":
        frame.ready(owner)
    return [frame.ready(args[0]), *args[1:]] if args else args


def reading(frame: Frame, owner: Any, name: str, args: list[Any]) -> Any:
    """What a method of a container returns that changes nothing."""
    if name in ("copy", "get"):
        args = [frame.ready(args[0]), *args[1:]] if args else args

        def read() -> Any:
            expressions.check_plain(*args[:1], *(contents.keys_to_compare(owner) if args else ()))
            return getattr(owner, name)(*args)

        return frame.touch(owner, read, f"`.{name}()`", writing=False)
    return expressions.lift(frame, f"`.{name}()`", lambda owner, *a: getattr(owner, name)(*a), owner, *args)


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

    if callee is copy.copy:
        return _shallow(frame, *args)
    if callee is collections.defaultdict and args and not any(args[0] is each for each in (None, *purity.FACTORIES)):
        raise Halted("a defaultdict's factory is code of your own")
    is_ordered = not any(callee is each for each in (sorted, min, max, frozenset)) and not _is_of_set(callee)

    def work(*values: Any) -> Any:
        expressions.check_plain(*values, only_data=True, as_text=is_ordered)
        named = dict(zip(names, values[count:], strict=True))
        return frame.scout.outside.own(callee(*values[:count], **named))

    what = f"`{getattr(callee, '__name__', 'a call')}(...)`"
    if key is None:
        return frame.lift(what, work, *args, *(kwargs[name] for name in names))
    if not any(callee is known for known in (sorted, max, min)):
        raise Halted(f"{what} with a key is not understood")

    def keyed(strand: Strand) -> Any:
        inner = frame.at(strand)
        by = key.at(strand) if isinstance(key, LocalFunction) else key
        named = {name: inner.ready(kwargs[name]) for name in names}
        items = contents.iterate(inner, args[0]) if count == 1 else args
        keys = [calls.apply(inner, by, [item], {}) for item in items]
        known = [inner.ready(one) for one in keys]
        for one in known:
            expressions.check_plain(one)
        order = sorted(range(len(items)), key=functools.partial(_pick, known), reverse=bool(named.get("reverse")))
        if callee is sorted:
            return [items[index] for index in order]
        if not items and "default" in named:
            return named["default"]
        choose: Any = callee
        return items[choose(range(len(items)), key=functools.partial(_pick, known))]

    regard = regards.of_callee(frame, key)
    if regard.is_opaque or regard.parameters:
        return keyed(frame.strand)
    regard.settle(frame, [*args, *kwargs.values()])
    reads = reachable([*args, *kwargs.values()])
    return frame.strand.fork(keyed, what, reads, regard.writes(reads))


def _shallow(frame: Frame, value: Any) -> Any:
    value = frame.force(value)
    if type(value) in purity.BOXES:
        return reading(frame, value, "copy", [])
    if type(value) in SCALARS or type(value) in (tuple, frozenset):
        return value
    raise Halted(f"a copy of a {type(value).__qualname__}")


def _is_of_set(callee: Any) -> bool:
    return type(callee) is types.BuiltinMethodType and type(callee.__self__) in (set, frozenset)


def _pick(known: list[Any], index: int) -> Any:
    return known[index]
