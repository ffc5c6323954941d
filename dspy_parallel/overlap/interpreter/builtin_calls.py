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

from dspy.dsp.utils.settings import Settings

from ...analysis import effect_free
from ...analysis.def_use import MUTATORS, facts_of
from ...analysis.format_strings import reads_parts
from ...analysis.log_listeners import is_stream_known
from ...analysis.third_party_loggers import bound_values, is_logger, refusal
from ...analysis.trusted_types import SCALARS, is_builtin_method, is_known, runs_on_access
from ..runtime.fibers import Fiber
from ..runtime.snapshot import is_scalar
from ..runtime.thunks import BailOut, Pending
from . import attribute_access, contents, effects, iterators
from .forks import fork
from .frame import Frame, LocalFunction, check_plain, children, raising, reachable

__all__ = ["lazy", "method", "pure", "reading", "refuse_to_grow", "structural", "tell"]


def lazy(frame: Frame, callee: Any, node: ast.Call) -> Callable[[], Any] | None:
    """`any`, `all` and `next` of an iterator stop at the first that decides: nothing behind is certain."""
    if not any(callee is known for known in (any, all, next)) or not node.args:
        return None
    source = node.args[0]
    if not isinstance(source, (ast.GeneratorExp, ast.Call)):
        if callee is next:
            raise BailOut("`next` of an iterator is not understood")
        return None

    def work(inner: Frame) -> Any:
        for value in iterators.pull(inner, source):
            if callee is next:
                return value
            if inner.truth(value) is (callee is any):
                return callee is any
        if callee is not next:
            return callee is all
        if len(node.args) > 1:
            return inner.evaluate(node.args[1])
        raise StopIteration

    return lambda: fork(frame, node, work, f"`{callee.__name__}`")


def refuse_to_grow(frame: Frame, callee: Any, node: ast.Call) -> None:
    """An iterator may look at the very list that it makes longer."""
    owner = getattr(callee, "__self__", None)
    for source in node.args:
        if type(owner) in effect_free.BOXES and isinstance(source, (ast.GeneratorExp, ast.Call)):
            is_seen = any(owner is each for each in reachable(frame.values_of(facts_of(source).loads)))
            said = ast.dump(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            if is_seen or any(ast.dump(part) == said for part in ast.walk(source) if isinstance(part, ast.Attribute)):
                raise BailOut(f"`.{callee.__name__}()` of a container with what is made of it")


def tell(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """The main line prints or logs; the scout only sees to it that nobody's code is run by that."""
    logger = getattr(callee, "__self__", None)
    if is_logger(type(logger)):
        return _log(frame, logger, args, kwargs)
    if not _WAYS_TO_TELL.issuperset(kwargs) or not is_stream_known(kwargs.get("file")):
        raise BailOut("it is told to something of your own")

    def check(fiber: Fiber) -> None:
        for arg in (*args, *kwargs.values()):
            check_plain(*_known(fiber.force(arg)))

    frame.fiber.fork(check, "what is printed")


def _log(frame: Frame, logger: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    def check(*values: Any) -> None:
        check_plain(*values)
        named = dict(zip(kwargs, values[len(args) : -1], strict=True))
        reason = raising(refusal, logger, values[: len(args)], named, values[-1])
        if reason:
            raise BailOut(reason)

    frame.lift("what is logged", check, *args, *kwargs.values(), bound_values(logger))


_WAYS_TO_TELL = frozenset(["file", "sep", "end", "flush", "exc_info", "stacklevel", "category"])


def _known(value: Any) -> list[Any]:
    """A value, or what is in it, as far as it is there."""
    if type(value) is Pending:
        return _known(value.value) if value.done else []
    if not effect_free.is_box(type(value)):
        return [value]
    return [known for item in children(value) for known in _known(item)]


def structural(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Builtins that rearrange items without looking at them."""
    waits = any(type(arg) is Pending and not arg.done for arg in args)
    closed = any(type(arg) in effect_free.BOXES and not frame.fiber.is_free(arg) for arg in args)
    if not waits and not closed:
        return _rearranged(frame, callee, [frame.force(arg) for arg in args], kwargs)

    def work(fiber: Fiber) -> Any:
        inner = frame.at(fiber)
        known = [arg.at(fiber) if isinstance(arg, LocalFunction) else arg for arg in args]
        return _rearranged(inner, callee, [fiber.force(arg) for arg in known], kwargs)

    reads = reachable([*args, *kwargs.values()])
    is_plain = callee in (len, isinstance, issubclass, callable, hasattr, range)
    return frame.fiber.fork(work, f"`{callee.__name__}(...)`", reads, is_plain=is_plain)


def _rearranged(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if callee is getattr or callee is hasattr:
        return _attribute(frame, callee, args)
    if callee is type and len(args) == 1:
        return type(args[0])
    if callee is range:
        bounds = [frame.ready(arg) for arg in args]
        check_plain(*bounds)
        return range(*bounds)
    if callee is set:
        return _set(frame, *args)
    if callee in (any, all):
        return frame.operate(f"`{callee.__name__}`", callee, *args)
    if callee is len:
        if type(args[0]) not in (*effect_free.CONTAINERS, *effect_free.RECORDS, str, bytes, range):
            raise BailOut(f"`len` of a {type(args[0]).__qualname__}")
        frame.fiber.touch(args[0])
        return len(args[0])
    if callee is isinstance or callee is issubclass:
        _check_classes(frame.ready(args[1]))
    if callee in (isinstance, issubclass, callable):
        if runs_on_access(type(args[0])) or (callee is issubclass and not isinstance(args[0], type)):
            raise BailOut(f"`{callee.__name__}` of a {type(args[0]).__qualname__}")
        return callee(*args)
    if callee is dict:
        return _dict(frame, args, kwargs)
    if callee in (list, tuple):
        return callee(contents.iterate(frame, args[0])) if args else callee()
    raise BailOut(f"`{callee.__name__}` is not understood here")


def _set(frame: Frame, *args: Any) -> set[Any]:
    if args and type(args[0]) in (set, frozenset, *_DICTS):  # their items may end up in another order
        frame.fiber.touch(args[0])
        check_plain(*args[0])
        return set(args[0])
    items = frame.ready(contents.iterate(frame, args[0])) if args else []
    check_plain(*items)
    return frame.interpreter.snapshot.made_set(items)


_DICTS = tuple(cls for cls in effect_free.BOXES if issubclass(cls, dict))


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
            raise BailOut("whether it is an instance is said by code of your own")


def _is_abstract(cls: Any) -> bool:
    return getattr(collections.abc, cls.__name__, None) is cls or is_known(cls)


def _dict(frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    if args and type(args[0]) in _DICTS:
        frame.fiber.touch(args[0])
        check_plain(*contents.keys_to_compare(args[0]))
        result.update(args[0])
    elif args:
        for pair in contents.iterate(frame, args[0]):
            key, value = contents.iterate(frame, pair)
            known = frame.ready(key)
            check_plain(known)
            result[known] = value
    return {**result, **kwargs}


def _attribute(frame: Frame, callee: Any, args: list[Any]) -> Any:
    owner, name = args[0], frame.ready(args[1])
    if isinstance(owner, Settings):
        exists = name in frame.fiber.overrides or hasattr(owner, name)
        if callee is hasattr or not exists:
            return exists if callee is hasattr else args[2]
        return attribute_access.get(frame, owner, name)
    if callee is hasattr or len(args) > 2:
        if type(owner) not in effect_free.RECORDS:
            raise BailOut(f"`{callee.__name__}` of {type(owner).__name__} is not understood")
        frame.fiber.touch(owner)
        exists = name in owner._store
        if callee is hasattr:
            return exists or hasattr(type(owner), name)
        return attribute_access.get(frame, owner, name) if exists else args[2]
    return attribute_access.get(frame, owner, name)


def method(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A method of a builtin type."""
    owner: Any = callee.__self__
    name = callee.__name__
    if type(owner) not in effect_free.BOXES:
        if name in MUTATORS:
            raise BailOut(f"`{name}` of a {type(owner).__name__} changes it")
        return pure(frame, callee, args, kwargs)
    if name in effect_free.READERS.get(type(owner), ()):
        return reading(frame, owner, name, args)
    if name not in MUTATORS:
        raise BailOut(f"`{name}` of a {type(owner).__name__} is not understood")
    if name == "sort":
        return _sort(frame, owner, kwargs)

    def change(fiber: Fiber) -> Any:
        inner = frame.at(fiber)
        given = _given(inner, owner, name, args)
        fiber.touch(owner, writing=True)
        inner.put_into(owner, *given)
        if type(owner) is set and (name == "pop" or any(type(each) in (set, frozenset) for each in given)):
            if name == "pop" and not frame.interpreter.snapshot.is_made_set(owner) and len(owner) > 1:
                raise BailOut("the order in a set is only known when the program comes to it")
            frame.interpreter.snapshot.set_is_mixed(owner)
        return raising(getattr(owner, name), *given, **kwargs)

    return frame.fiber.fork(change, f"`.{name}()`", reachable([owner, *args]), [owner])


def _given(frame: Frame, owner: Any, name: str, args: list[Any]) -> list[Any]:
    """The arguments of a method that changes a container, as far as they have to be known."""
    given = _prepared(frame, owner, name, args)
    if name in ("pop", "insert", "rotate"):  # a position, or a key
        check_plain(*given[:1])
    if type(owner) is not list or name == "remove":
        for each in given:
            if isinstance(each, dict):
                check_plain(*contents.keys_to_compare(each))
            elif isinstance(owner, (set, dict)) and name not in ("setdefault", "pop"):
                check_plain(each)
        if isinstance(owner, dict) and name in ("setdefault", "pop") and given:
            check_plain(given[0])
        check_plain(*(owner if name == "remove" else ()))
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
            check_plain(*args[:1], *(contents.keys_to_compare(owner) if args else ()))
            return raising(getattr(owner, name), *args)

        return frame.touch(owner, read, f"`.{name}()`", writing=False)
    return frame.operate(f"`.{name}()`", lambda owner, *a: getattr(owner, name)(*a), owner, *args)


def _sort(frame: Frame, owner: list[Any], kwargs: dict[str, Any]) -> Any:
    def change() -> None:
        frame.put_into(owner)
        owner[:] = frame.ready(pure(frame, sorted, [list(owner)], kwargs))

    frame.ready(owner)
    return frame.touch(owner, change, "`.sort()`", writing=True)


def pure(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """A function without effects, on values that are there."""
    key = frame.force(kwargs.get("key"))
    names = [name for name in kwargs if name != "key"]
    count = len(args)
    template = getattr(callee, "__self__", None)

    if callee is copy.copy:
        return _shallow(frame, *args)
    if (
        callee is collections.defaultdict
        and args
        and not any(args[0] is each for each in (None, *effect_free.FACTORIES))
    ):
        raise BailOut("a defaultdict's factory is code of your own")
    is_ordered = not any(callee is each for each in (sorted, min, max, frozenset)) and not _is_of_set(callee)

    def work(*values: Any) -> Any:
        check_plain(*values, only_data=True, as_text=is_ordered)
        if type(template) is str and callee.__name__ in ("format", "format_map") and reads_parts(template):
            raise BailOut("a text reads attributes of what it is formatted with")
        named = dict(zip(names, values[count:], strict=True))
        return frame.interpreter.snapshot.own(raising(callee, *values[:count], **named))

    what = f"`{getattr(callee, '__name__', 'a call')}(...)`"
    if key is None:
        is_of_scalars = any(callee is each for each in (min, max, round, abs)) and all(map(is_scalar, args))
        is_plain = is_of_scalars or any(callee is each for each in _TO_SCALARS)
        return frame.lift(what, work, *args, *(kwargs[name] for name in names), is_plain=is_plain)
    if not any(callee is known for known in (sorted, max, min)):
        raise BailOut(f"{what} with a key is not understood")

    def keyed(fiber: Fiber) -> Any:
        inner = frame.at(fiber)
        by = key.at(fiber) if isinstance(key, LocalFunction) else key
        named = {name: inner.ready(kwargs[name]) for name in names}
        items = contents.iterate(inner, args[0]) if count == 1 else args
        keys = [inner.apply(by, [item], {}) for item in items]
        known = [inner.ready(one) for one in keys]
        for one in known:
            check_plain(one)
        order = sorted(range(len(items)), key=functools.partial(_pick, known), reverse=bool(named.get("reverse")))
        if callee is sorted:
            return [items[index] for index in order]
        if not items and "default" in named:
            return named["default"]
        choose: Any = callee
        return items[choose(range(len(items)), key=functools.partial(_pick, known))]

    found = effects.of_callee(frame, key)
    if found.barrier or found.parameters:
        return keyed(frame.fiber)
    reads = reachable([*args, *kwargs.values()])
    return frame.fiber.fork(keyed, what, found.reads(frame, reads), found.writes(frame, reads))


_TO_SCALARS = (str, int, float, bool, repr, format)


def _shallow(frame: Frame, value: Any) -> Any:
    value = frame.force(value)
    if type(value) in effect_free.BOXES:
        return reading(frame, value, "copy", [])
    if type(value) in SCALARS or type(value) in (tuple, frozenset):
        return value
    raise BailOut(f"a copy of a {type(value).__qualname__}")


def _is_of_set(callee: Any) -> bool:
    return is_builtin_method(callee) and type(callee.__self__) in (set, frozenset)


def _pick(known: list[Any], index: int) -> Any:
    return known[index]
