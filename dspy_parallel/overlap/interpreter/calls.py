"""What calling something gives, and when it may be called ahead of its turn."""

from __future__ import annotations

import ast
import asyncio
import enum
import functools
import inspect
import os
import random
import types
from typing import Any

import dspy
import pydantic

from ...analysis import effect_free, searches
from ...analysis.def_use import MUTATORS, facts_of, parameters_of
from ...analysis.source import source_of
from ...analysis.third_party_loggers import is_logger, logger_made, why_heard
from ...analysis.trusted_types import is_builtin_method, is_code_of, is_known, is_made_plainly, runs_on_access
from ..runtime.fibers import Fiber
from ..runtime.snapshot import NOT_STATE
from ..runtime.thunks import BailOut, Pending
from . import attribute_access, builtin_calls, contents, effects, iterators, own_modules
from .call_targets import call_of_object, is_harmless_method, name_of, why_not_called
from .frame import Frame, Iterating, LocalFunction, Returned, blockers, check_plain, raising, reachable
from .intrinsics import INTRINSICS, Intrinsic

__all__ = ["Iterating", "apply", "apply_awaited", "arguments", "awaited", "call", "enter", "frame_of"]

MAX_DEPTH = 40
"""How deep the scout follows calls."""

_BUILTIN_MODULES = frozenset({dspy.Predict, dspy.ChainOfThought, dspy.MultiChainComparison})
"""Modules of DSPy's own that do nothing but call predictors."""


_SCALAR_METHODS = frozenset(
    (
        *("strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "replace", "format", "join"),
        *("casefold", "startswith", "endswith", "count", "find", "isdigit", "isalpha", "isnumeric"),
        *("removeprefix", "removesuffix"),
    )
)
"""Methods of texts that give a text or a number."""


def call(frame: Frame, node: ast.Call, *, used_up: bool = False) -> Any:
    """The value of a call expression; `Iterating` if it is of that kind, and is going to be used up here."""
    if isinstance(node.func, ast.Attribute):
        owner = frame.evaluate(node.func.value)
        if node.func.attr in effect_free.VIEWS and not node.args:
            owner = frame.force(owner)
        if type(owner) is Pending and owner.is_unknown and owner.is_plain:
            arguments(frame, node)
            return frame.interpreter.unknown(owner.what, is_plain=True)
        is_later = type(owner) is Pending and not owner.done and all(each.arg != "key" for each in node.keywords)
        if is_later and is_harmless_method(frame, node.func.attr):
            return _call_later(frame, node, owner, node.func.attr)
        callee = frame.force(attribute_access.attribute(frame, owner, node.func.attr))
    else:
        callee = frame.force(frame.evaluate(node.func))
    if callee is super and not node.args:
        return _super(frame)
    if effect_free.is_iterator(callee):
        if used_up:
            return Iterating(callee)
        raise BailOut("an iterator or a view is not used up where it is made")
    lazily = builtin_calls.lazy(frame, callee, node)
    if lazily is not None:
        return lazily()
    takes_all = effect_free.takes_all(callee)
    if takes_all:
        builtin_calls.refuse_to_grow(frame, callee, node)
    return frame.apply(callee, *arguments(frame, node, takes_all=takes_all))


def _call_later(frame: Frame, node: ast.Call, owner: Pending, name: str) -> Any:
    """Call a method of a value that is not there yet."""
    args, kwargs = arguments(frame, node)

    def work(fiber: Fiber) -> Any:
        inner = frame.at(fiber)
        known = [arg.at(fiber) if isinstance(arg, LocalFunction) else arg for arg in args]
        return inner.apply(attribute_access.get(inner, fiber.force(owner), name), known, kwargs)

    reads = reachable([owner, *args, *kwargs.values()])
    writes = reachable([owner]) if name in MUTATORS else ()
    is_plain = owner.is_plain and name in _SCALAR_METHODS
    return frame.fiber.fork(work, f"`.{name}()` of {owner.what}", reads, writes, is_plain=is_plain)


def arguments(frame: Frame, node: ast.Call, *, takes_all: bool = False) -> tuple[list[Any], dict[str, Any]]:
    """What a call is given."""
    args: list[Any] = []
    for argument in node.args:
        if isinstance(argument, ast.Starred):
            args += contents.iterate(frame, iterators.whole(frame, argument.value))
        else:
            args.append(_seen(frame, (iterators.whole if takes_all else Frame.evaluate)(frame, argument)))
    kwargs: dict[str, Any] = {}
    for keyword in node.keywords:
        value = frame.evaluate(keyword.value)
        if keyword.arg is None:
            value = frame.force(value)
            if type(value) in effect_free.RECORDS:
                frame.fiber.touch(value)
                value = dict(value._store)
            elif not (isinstance(value, dict) and type(value) in effect_free.BOXES):
                raise BailOut(f"`**` of a {type(value).__qualname__}")
            frame.fiber.touch(value)
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
    if type(callee) in (type, types.FunctionType) and callee in INTRINSICS:
        return INTRINSICS[callee](frame, args, kwargs)
    if issubclass(type(callee), Intrinsic):
        return callee.call(frame, args, kwargs)
    if callee is os.getenv:
        callee = frame.interpreter.snapshot.adopt(os.environ).get
    if runs_on_access(type(callee)):
        raise BailOut(f"attributes of {type(callee).__qualname__} are code of your own")
    if isinstance(callee, dspy.BaseLM):
        raise BailOut("an LM is called without a predictor")
    declaration = effect_free.declared(callee)
    if declaration == "ordered":
        raise BailOut(f"{name_of(callee)} is declared @ordered")
    if declaration == "pure" and not isinstance(callee, type) and type(callee) is not dspy.Predict:
        return frame.interpreter.issue(frame, callee, args, kwargs)
    if searches.is_retriever(callee):
        reason = searches.why_not_searched(callee, frame.fiber.overrides.get("rm", dspy.settings.rm))
        if reason:
            raise BailOut(reason)
        return frame.interpreter.issue(frame, types.MethodType(searches.searched, callee), args, kwargs)
    if isinstance(callee, LocalFunction):
        return frame.enter(callee, args, kwargs)
    if isinstance(callee, dspy.Module):
        return _module(frame, callee, args, kwargs)
    if effect_free.is_iterator(callee):
        raise BailOut("an iterator or a view is not used up where it is made")
    if effect_free.is_structural(callee):
        return builtin_calls.structural(frame, callee, args, kwargs)
    if (made := logger_made(callee, args, kwargs)) is not None:
        return made
    if effect_free.is_silent(callee):
        return builtin_calls.tell(frame, callee, args, kwargs)
    if effect_free.is_harmless(callee):
        is_plain = not isinstance(getattr(callee, "__self__", None), random.Random)
        return frame.interpreter.unknown(f"`{name_of(callee)}()`", is_plain=is_plain)
    if type(callee) is types.MethodType:
        return _method(frame, callee, args, kwargs)
    if is_builtin_method(callee) and effect_free.is_builtin(type(callee.__self__)):
        return builtin_calls.method(frame, callee, args, kwargs)
    if effect_free.is_pure_function(callee):
        return builtin_calls.pure(frame, callee, args, kwargs)
    if isinstance(callee, type):
        return _instance(frame, callee, args, kwargs)
    if type(callee) is types.FunctionType:
        return frame.enter(callee, args, kwargs)
    if (function := call_of_object(callee)) is not None:
        return frame.enter(function, [callee, *args], kwargs)
    raise BailOut(f"{name_of(callee)} may have effects")


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
    if reason := why_not_called(module):
        raise BailOut(reason)
    if cls is dspy.Predict and not args:
        return frame.interpreter.issue(frame, module, args, kwargs)
    if cls in effects.RUN_WHOLE:
        return own_modules.called(frame, module, args, kwargs)
    if is_known(cls) and cls not in _BUILTIN_MODULES:
        raise BailOut(f"{cls.__qualname__} may have effects")
    forward = vars(module).get("forward")
    if forward is None:
        if not is_known(cls) and type(inspect.getattr_static(cls, "forward")) is not types.FunctionType:
            raise BailOut(f"`forward` of {cls.__qualname__} is a descriptor")
        forward = types.MethodType(cls.forward, module)
    return frame.apply(forward, args, kwargs)


def _method(frame: Frame, method: types.MethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    owner, function = method.__self__, method.__func__
    if is_logger(type(owner)):
        raise BailOut(why_heard(method))
    if type(owner) in effect_free.RECORDS:
        if function.__name__ not in effect_free.READERS[type(owner)] or not is_code_of(function, "dspy"):
            raise BailOut(f"`{function.__name__}` of a {type(owner).__name__} may have effects")
        return _read(frame, method, args, kwargs)
    if type(owner) in effect_free.BOXES and function.__name__ in effect_free.READERS[type(owner)]:
        return builtin_calls.reading(frame, owner, function.__name__, args)
    if effect_free.is_reader_of_model(method):
        return _read(frame, method, args, kwargs)
    if effect_free.is_validator_of_model(method) and not kwargs:
        return _made(frame, owner, method, args, kwargs)
    if isinstance(owner, NOT_STATE) and not isinstance(owner, dspy.Predict):
        raise BailOut(f"`{function.__name__}` of {type(owner).__qualname__} is not followed")
    if isinstance(owner, dspy.Module) and function in (dspy.Module.__call__, dspy.Predict.__call__):
        return _module(frame, owner, args, kwargs)
    if function is dspy.Module.__init__ and not args and not kwargs:
        return None  # what it sets, is set
    if not isinstance(function, types.FunctionType):
        raise BailOut(f"{name_of(method)} may have effects")
    if is_code_of(function, "dspy") and isinstance(owner, dspy.Module) and function.__name__ != "forward":
        if function.__name__ in effect_free.MODULE_READERS:
            return method(*args, **kwargs)
        raise BailOut(f"{name_of(method)} may have effects")
    return frame.enter(function, [owner, *args], kwargs)


def _read(frame: Frame, method: types.MethodType, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """What a method of a record returns that changes nothing."""

    def read(owner: Any, *values: Any) -> Any:
        named = dict(zip(kwargs, values[len(args) :], strict=True))
        return frame.interpreter.snapshot.own(method(*values[: len(args)], **named))

    name = method.__func__.__name__
    return frame.operate(f"`.{name}()`", read, method.__self__, *args, *kwargs.values(), as_text=True)


def _instance(frame: Frame, cls: type, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if cls is random.Random:
        return cls(*map(frame.ready, args))
    if cls in effects.MODULES:
        return own_modules.made(frame, cls, args, kwargs)
    if is_made_plainly(cls):
        made = frame.interpreter.snapshot.blank(cls)
        init = inspect.getattr_static(cls, "__init__")
        if isinstance(init, types.FunctionType):
            frame.enter(init, [made, *args], kwargs)
        return made
    if (cls in effect_free.RECORDS and not args) or cls is functools.partial:
        return cls(*args, **kwargs)
    return _made(frame, cls, cls, args, kwargs)


def _made(frame: Frame, cls: Any, maker: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """An instance of a class whose making has no effects: of its arguments, or of what Pydantic is to check."""
    is_known_to_be = effect_free.is_pure_class(cls) or effects.is_model_made_quietly(frame, cls)
    if not is_known_to_be and effect_free.declared(cls) != "pure":
        raise BailOut(f"making a {cls.__qualname__} may have effects")

    def make(*values: Any) -> Any:
        if issubclass(cls, (enum.Enum, pydantic.BaseModel)):
            check_plain(*values, only_data=True)
        if issubclass(cls, enum.Enum) and (len(values) != 1 or values[0] not in [each.value for each in cls]):
            raise BailOut(f"there is no such {cls.__qualname__}")
        return frame.interpreter.snapshot.own(
            raising(maker, *values[: len(args)], **dict(zip(kwargs, values[len(args) :], strict=True)))
        )

    return frame.lift(f"a {cls.__qualname__}", make, *args, *kwargs.values())


# Functions whose source can be read


def awaited(frame: Frame, node: ast.Await) -> Any:
    """The value of an `await`: of calling a coroutine function or `acall()`, or of an `asyncio.gather()` of these."""
    made = node.value
    if not isinstance(made, ast.Call):
        raise BailOut("`await` of something that is not called there")
    owner = frame.force(frame.evaluate(made.func.value)) if isinstance(made.func, ast.Attribute) else None
    if isinstance(made.func, ast.Attribute) and made.func.attr == "acall" and issubclass(type(owner), dspy.Module):
        return apply_awaited(frame, owner, *arguments(frame, made))
    callee = frame.force(frame.evaluate(made.func))
    if callee is asyncio.gather and not made.keywords:
        return [awaited(frame, ast.copy_location(ast.Await(each), each)) for each in made.args]
    return apply_awaited(frame, callee, *arguments(frame, made))


def apply_awaited(frame: Frame, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The value of awaiting what calling something gives."""
    if issubclass(type(callee), dspy.Module):
        cls = type(callee)
        if is_known(cls):
            return _module(frame, callee, args, kwargs)
        aforward = inspect.getattr_static(cls, "aforward", None)
        if type(aforward) is not types.FunctionType or inspect.getattr_static(cls, "acall") is not _ACALL:
            raise BailOut(f"{cls.__qualname__} is awaited in a way of its own")
        callee = types.MethodType(aforward, callee)
    if type(callee) is types.MethodType:
        callee, args = callee.__func__, [callee.__self__, *args]
    if type(callee) is not types.FunctionType or not callee.__code__.co_flags & inspect.CO_COROUTINE:
        raise BailOut(f"{name_of(callee)} may have effects")
    return enter(frame, callee, args, kwargs, is_awaited=True)


_ACALL: Any = inspect.getattr_static(dspy.Module, "acall")


def enter(frame: Frame, function: Any, args: Any, kwargs: dict[str, Any], *, is_awaited: bool = False) -> Any:
    """Interpret a function's body."""
    function = _seen(frame, effect_free.original(function))
    if frame.depth >= MAX_DEPTH:
        raise BailOut("calls are nested too deeply")
    if isinstance(function, LocalFunction):
        node: Any = function.node
        defaults, named = function.defaults, function.keyword_defaults
    else:
        source = source_of(function, any_kind=is_awaited)
        if source.node is None:
            raise BailOut(source.problem)
        node = source.node
        adopt = frame.interpreter.snapshot.adopt
        defaults = tuple(adopt(value) for value in function.__defaults__ or ())
        named = {name: adopt(value) for name, value in (function.__kwdefaults__ or {}).items()}
    names = bind(node.args, defaults, named, list(args), kwargs)

    def run(fiber: Fiber) -> Any:
        own = names
        if fiber is not frame.fiber:
            own = {name: value.at(fiber) if type(value) is LocalFunction else value for name, value in names.items()}
        if isinstance(function, LocalFunction):
            outer = function.frame if fiber is frame.fiber else function.frame.at(fiber)
            inner = Frame(frame.interpreter, fiber, own, node=node, outer=outer, depth=frame.depth + 1)
        else:
            inner = Frame(
                frame.interpreter, fiber, own, function=function, node=node, caller=frame, depth=frame.depth + 1
            )
        inner.line = node.lineno
        if isinstance(node, ast.Lambda):
            return inner.evaluate(node.body)
        outcome = inner.execute(node.body)
        return outcome.value if isinstance(outcome, Returned) else None

    first = names[parameters_of(node.args)[0]] if args and not isinstance(function, LocalFunction) else None
    found = effects.of_arguments(frame, effects.of_function(frame, function, first), names)
    if found.barrier or not (found.may_call or _finds_pending(frame, function, node, names)):
        return run(frame.fiber)
    reads = reachable([*names.values(), *([function] if isinstance(function, LocalFunction) else [])])
    what = f"what `{getattr(node, 'name', 'a lambda')}` returns"
    return frame.fiber.fork(run, what, found.reads(frame, reads), found.writes(frame, reads))


def frame_of(frame: Frame, generator: Any, args: list[Any], kwargs: dict[str, Any]) -> Frame:
    """Where the body of a context manager's generator is interpreted."""
    source = source_of(generator, any_kind=True)
    if source.node is None:
        raise BailOut(source.problem)
    adopt = frame.interpreter.snapshot.adopt
    defaults = tuple(adopt(value) for value in generator.__defaults__ or ())
    named = {name: adopt(value) for name, value in (generator.__kwdefaults__ or {}).items()}
    names = bind(source.node.args, defaults, named, args, kwargs)
    inner = Frame(
        frame.interpreter, frame.fiber, names, function=generator, node=source.node, caller=frame, depth=frame.depth + 1
    )
    inner.line = source.node.lineno
    return inner


def _finds_pending(frame: Frame, function: Any, node: Any, names: dict[str, Any]) -> bool:
    """Whether a function may come across a value that is not there yet."""
    values = [*names.values()]
    if isinstance(function, LocalFunction):
        values += function.frame.values_of(facts_of(node.body).loads)
    return any(blockers(frame.fiber, value) for value in values)


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
