"""What calling something gives, and when it may be called ahead of its turn."""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import random
import types
from typing import Any, NamedTuple

import dspy
import pydantic

from . import attributes, builtin_calls, contents, expressions, purity, regards, statements, streams
from .facts import MUTATORS, facts_of, parameters_of
from .frame import Frame, LocalFunction, blockers, reachable
from .inert import is_code_of, is_known, runs_on_access
from .outside import NOT_STATE
from .sources import source_of
from .strands import Halted, Pending, Strand

__all__ = ["Iterating", "apply", "call", "enter"]

MAX_DEPTH = 40
"""How deep the scout follows calls."""

_BUILTIN_MODULES = frozenset({dspy.Predict, dspy.ChainOfThought, dspy.MultiChainComparison})
"""Modules of DSPy's own that do nothing but call predictors."""


_READERS_OF_MODELS = frozenset(["copy", "dict", "json", "model_copy", "model_dump", "model_dump_json"])


class Iterating(NamedTuple):
    """A call that gives an iterator or a view, and has yet to be made."""

    callee: Any


def call(frame: Frame, node: ast.Call, *, used_up: bool = False) -> Any:
    """The value of a call expression; `Iterating` if it is of that kind, and is going to be used up here."""
    if isinstance(node.func, ast.Attribute):
        owner = expressions.evaluate(frame, node.func.value)
        if node.func.attr in MUTATORS:
            owner = frame.force_result(owner)  # who else knows it has to be told
        elif node.func.attr in purity.VIEWS and not node.args:
            owner = frame.force(owner)
        if type(owner) is Pending and owner.is_data:
            _arguments(frame, node)
            return frame.scout.unknown(owner.what, is_data=True)
        is_later = type(owner) is Pending and not owner.done and all(each.arg != "key" for each in node.keywords)
        if is_later and regards.is_harmless_method(frame, node.func.attr):
            return _call_later(frame, node, owner, node.func.attr)
        callee = frame.force(expressions.attribute(frame, owner, node.func.attr))
    else:
        callee = frame.force(expressions.evaluate(frame, node.func))
    if callee is super and not node.args:
        return _super(frame)
    if purity.is_iterator(callee):
        if used_up:
            return Iterating(callee)
        raise Halted("an iterator or a view is not used up where it is made")
    lazily = builtin_calls.lazy(frame, callee, node)
    if lazily is not None:
        return lazily()
    takes_all = purity.takes_all(callee)
    if takes_all:
        builtin_calls.refuse_to_grow(frame, callee, node)
    return apply(frame, callee, *_arguments(frame, node, takes_all=takes_all))


def _call_later(frame: Frame, node: ast.Call, owner: Pending, name: str) -> Any:
    """Call a method of a value that is not there yet."""
    args, kwargs = _arguments(frame, node)

    def work(strand: Strand) -> Any:
        inner = frame.at(strand)
        known = [arg.at(strand) if isinstance(arg, LocalFunction) else arg for arg in args]
        return apply(inner, attributes.get(inner, strand.force(owner), name), known, kwargs)

    reads = reachable([owner, *args, *kwargs.values()])
    writes = reachable([owner]) if name in MUTATORS else ()
    return frame.strand.fork(work, f"`.{name}()` of {owner.what}", reads, writes, finds=name in MUTATORS)


def _arguments(frame: Frame, node: ast.Call, *, takes_all: bool = False) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            args += contents.iterate(frame, streams.whole(frame, argument.value))
        else:
            args.append(_seen(frame, (streams.whole if takes_all else expressions.evaluate)(frame, argument)))
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        value = expressions.evaluate(frame, keyword.value)
        if keyword.arg is None:
            value = frame.force(value)
            if type(value) in purity.RECORDS:
                frame.strand.touch(value)
                value = dict(value._store)
            elif not (isinstance(value, dict) and type(value) in purity.BOXES):
                raise Halted(f"`**` of a {type(value).__qualname__}")
            frame.strand.touch(value)
            kwargs.update(value)
        else:
            kwargs[keyword.arg] = _seen(frame, value)
    return args, kwargs


def _seen(frame: Frame, value: Any) -> Any:
    return value.seen_from(frame) if type(value) is LocalFunction else value


def apply(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The value of calling something."""
    while type(callee) is functools.partial:
        args, kwargs = [*callee.args, *args], {**callee.keywords, **kwargs}
        callee = callee.func
    if runs_on_access(type(callee)):
        raise Halted(f"attributes of {type(callee).__qualname__} are code of your own")
    if isinstance(callee, dspy.BaseLM):
        raise Halted("an LM is called without a predictor")
    declaration = purity.declared(callee)
    if declaration == "ordered":
        raise Halted(f"{_name(callee)} is declared @ordered")
    if declaration == "pure" and not isinstance(callee, type) and type(callee) is not dspy.Predict:
        return frame.scout.issue(frame, callee, args, kwargs)
    if isinstance(callee, LocalFunction):
        return enter(frame, callee, args, kwargs)
    if isinstance(callee, dspy.Module):
        return _module(frame, callee, args, kwargs)
    if purity.is_iterator(callee):
        raise Halted("an iterator or a view is not used up where it is made")
    if purity.is_structural(callee):
        return builtin_calls.structural(frame, callee, args, kwargs)
    if purity.is_silent(callee):
        return builtin_calls.tell(frame, args, kwargs)
    if purity.is_harmless(callee):
        is_data = not isinstance(getattr(callee, "__self__", None), random.Random)
        return frame.scout.unknown(f"`{_name(callee)}()`", is_data=is_data)
    if type(callee) is types.MethodType:
        return _method(frame, callee, args, kwargs)
    if type(callee) is types.BuiltinMethodType and purity.is_builtin(type(callee.__self__)):
        return builtin_calls.method(frame, callee, args, kwargs)
    if purity.is_pure_function(callee):
        return builtin_calls.pure(frame, callee, args, kwargs)
    if isinstance(callee, type):
        return _instance(frame, callee, args, kwargs)
    if type(callee) is types.FunctionType:
        return enter(frame, callee, args, kwargs)
    raise Halted(f"{_name(callee)} may have effects")


def _name(callee: Any) -> str:
    if isinstance(callee, (types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)):
        return str(callee.__qualname__)
    return type(callee).__qualname__


def _super(frame: Frame) -> Any:
    inner: Frame = frame
    while inner.outer is not None:
        inner = inner.outer
    assert inner.function is not None
    source = source_of(inner.function)
    assert source.node is not None
    return super(inner.load("__class__"), inner.load(parameters_of(source.node.args)[0]))


def _module(frame: Frame, module: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    cls = type(module)
    if cls is dspy.Predict and not args:
        return frame.scout.issue(frame, module, args, kwargs)
    # Not `cls.__call__`: a seam in its place is another object each time it is looked up.
    if inspect.getattr_static(cls, "__call__") is not inspect.getattr_static(dspy.Module, "__call__"):
        raise Halted(f"{cls.__qualname__} has a `__call__` of its own")
    if is_known(cls) and cls not in _BUILTIN_MODULES:
        raise Halted(f"{cls.__qualname__} may have effects")
    forward = vars(module).get("forward")
    if forward is None:
        if not is_known(cls) and type(inspect.getattr_static(cls, "forward")) is not types.FunctionType:
            raise Halted(f"`forward` of {cls.__qualname__} is a descriptor")
        forward = types.MethodType(cls.forward, module)
    return apply(frame, forward, args, kwargs)


def _method(frame: Frame, method: types.MethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    owner, function = method.__self__, method.__func__
    if type(owner) in purity.RECORDS:
        if function.__name__ not in purity.READERS[type(owner)] or not is_code_of(function, "dspy"):
            raise Halted(f"`{function.__name__}` of a {type(owner).__name__} may have effects")
        return _read(frame, method, args, kwargs)
    if type(owner) in purity.BOXES and function.__name__ in purity.READERS[type(owner)]:
        return builtin_calls.reading(frame, owner, function.__name__, args)
    if purity.is_box(type(owner)) and function.__name__ in _READERS_OF_MODELS and is_code_of(function, "pydantic"):
        return _read(frame, method, args, kwargs)
    if isinstance(owner, NOT_STATE) and not isinstance(owner, dspy.Predict):
        raise Halted(f"`{function.__name__}` of {type(owner).__qualname__} is not followed")
    if isinstance(owner, dspy.Module) and function in (dspy.Module.__call__, dspy.Predict.__call__):
        return _module(frame, owner, args, kwargs)
    if not isinstance(function, types.FunctionType):
        raise Halted(f"{_name(method)} may have effects")
    if is_code_of(function, "dspy") and isinstance(owner, dspy.Module) and function.__name__ != "forward":
        if function.__name__ in purity.MODULE_READERS:
            return method(*args, **kwargs)
        raise Halted(f"{_name(method)} may have effects")
    return enter(frame, function, [owner, *args], kwargs)


def _read(frame: Frame, method: types.MethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a method of a record returns that changes nothing."""

    def read(owner: Any, *values: Any) -> Any:
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        return frame.scout.outside.own(method(*values[: len(args)], **named))

    name = method.__func__.__name__
    return expressions.lift(frame, f"`.{name}()`", read, method.__self__, *args, *kwargs.values(), as_text=True)


def _instance(frame: Frame, cls: type, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if not purity.is_pure_class(cls) and purity.declared(cls) != "pure":
        raise Halted(f"making a {cls.__qualname__} may have effects")
    if (cls in purity.RECORDS and not args) or cls is functools.partial:
        return cls(*args, **kwargs)

    def make(*values: Any) -> Any:
        if issubclass(cls, (enum.Enum, pydantic.BaseModel)):
            expressions.check_plain(*values, only_data=True)
        if issubclass(cls, enum.Enum) and (len(values) != 1 or values[0] not in [each.value for each in cls]):
            raise Halted(f"there is no such {cls.__qualname__}")
        return frame.scout.outside.own(cls(*values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True))))

    return frame.lift(f"a {cls.__qualname__}", make, *args, *kwargs.values())


# Functions whose source can be read


def enter(frame: Frame, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Interpret a function's body."""
    function = _seen(frame, purity.original(function))
    if frame.depth >= MAX_DEPTH:
        raise Halted("calls are nested too deeply")
    if isinstance(function, LocalFunction):
        node: Any = function.node
        defaults, named = function.defaults, function.keyword_defaults
    else:
        source = source_of(function)
        if source.node is None:
            raise Halted(source.problem)
        node = source.node
        adopt = frame.scout.outside.adopt
        defaults = tuple(adopt(value) for value in function.__defaults__ or ())
        named = {name: adopt(value) for name, value in (function.__kwdefaults__ or {}).items()}
    names = bind(node.args, defaults, named, list(args), kwargs)

    def run(strand: Strand) -> Any:
        own = names
        if strand is not frame.strand:
            own = {name: value.at(strand) if type(value) is LocalFunction else value for name, value in names.items()}
        if isinstance(function, LocalFunction):
            outer = function.frame if strand is frame.strand else function.frame.at(strand)
            inner = Frame(frame.scout, strand, own, node=node, outer=outer, depth=frame.depth + 1)
        else:
            inner = Frame(frame.scout, strand, own, function=function, node=node, caller=frame, depth=frame.depth + 1)
        inner.line = node.lineno
        return statements.run_body(inner, node)

    first = names[parameters_of(node.args)[0]] if args and not isinstance(function, LocalFunction) else None
    regard = regards.of_arguments(frame, regards.of_function(frame, function, first), names)
    if regard.is_opaque or not (regard.may_call or _finds_pending(frame, function, node, names)):
        return run(frame.strand)
    regard.settle(frame, [*names.values()])
    reads = reachable([*names.values(), *([function] if isinstance(function, LocalFunction) else [])])
    what = f"what `{getattr(node, 'name', 'a lambda')}` returns"
    return frame.strand.fork(run, what, reads, regard.writes(reads))


def _finds_pending(frame: Frame, function: Any, node: Any, names: dict[str, Any]) -> bool:
    """Whether a function may come across a value that is not there yet."""
    values = [*names.values()]
    if isinstance(function, LocalFunction):
        values += function.frame.values_of(facts_of(node.body).loads)
    return any(blockers(frame.strand, value) for value in values)


def bind(
    arguments: ast.arguments,
    defaults: tuple[Any, ...],
    named_defaults: dict[str, Any],
    args: list[Any],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """The parameters' values, as Python binds them."""
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    names: dict[str, Any] = dict(zip(positional[len(positional) - len(defaults) :], defaults, strict=True))
    names.update(named_defaults)
    names.update(zip(positional, args, strict=False))
    if arguments.vararg is not None:
        names[arguments.vararg.arg] = tuple(args[len(positional) :])
    elif len(args) > len(positional):
        raise TypeError("too many positional arguments")
    known = {*positional[len(arguments.posonlyargs) :], *(argument.arg for argument in arguments.kwonlyargs)}
    names.update({name: value for name, value in kwargs.items() if name in known})
    rest = {name: value for name, value in kwargs.items() if name not in known}
    if arguments.kwarg is not None:
        names[arguments.kwarg.arg] = rest
    elif rest:
        raise TypeError("unexpected keyword arguments")
    return names
