"""What may happen when something is called."""

from __future__ import annotations

import ast
import builtins
import contextvars
import dataclasses
import functools
import inspect
import logging
import pathlib
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

from . import dspy_calls
from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Bound, Closure, Instance, Partial, SuperOf, Value
from .effect_free import original
from .harmless_calls import (
    CALLERS,
    DATA_TYPES,
    changes_environment,
    is_a,
    is_data_class,
    is_harmless_class,
    is_harmless_function,
    is_process_wide,
    read,
)
from .held_values import Held
from .log_listeners import is_heard_by_nobody, is_stream_known
from .object_contents import hands_out
from .reach import Arguments, Frame, Reach, has_call
from .reached_attributes import (
    ask_class,
    ask_truth,
    assign_attribute,
    attribute,
    constant_name,
    described,
    is_function,
    is_hidden,
    module_of,
    name_of,
    operate,
    super_of,
    suspect,
)
from .reached_classes import construct, set_fields
from .source import source_of
from .trusted_types import CONTAINERS, RECORDS, is_code_of, is_generated, unpatched

__all__ = ["call", "call_method"]

_METHOD_NAMES = frozenset(name for cls in (*DATA_TYPES, *CONTAINERS, *RECORDS) for name in dir(cls))
_CALL_NOTHING = frozenset(
    id(function)
    for function in (
        *(isinstance, issubclass, callable, id, repr, print, len, hash, list, dict, tuple, set, frozenset, zip),
        *(enumerate, reversed, range, any, all, str),
    )
)
"""Known functions that call none of their arguments; of all others it is assumed that they may call any."""
_CALLING_METHODS = frozenset(["sort", "sub", "subn", "call", "run"])


# Calls


def call(reach: Reach, frame: Frame, value: Value, arguments: Arguments, node: Any, text: str) -> Value:
    """What a call may return."""
    if not value:
        return NOTHING
    return NOTHING.union(*(_call(reach, frame, atom, arguments, node, text) for atom in value))


def _call(reach: Reach, frame: Frame, atom: Any, arguments: Arguments, node: Any, text: str) -> Value:
    known = reach.before_call(frame, atom, arguments, node, text)
    if known is not None:
        return known
    if atom is DATA:
        return _call_data(reach, frame, "", ONLY_DATA, arguments, node)
    if atom is UNKNOWN:
        return reach.need(frame, node, "unread", f"what {text} is, is not known") and frozenset([UNKNOWN])
    if isinstance(atom, Closure):
        return _enter(reach, frame, node, atom, arguments)
    if isinstance(atom, Bound):
        return _call_bound(reach, frame, atom, arguments, node)
    if isinstance(atom, Partial):
        inner = Arguments([], {}, arguments.all | atom.arguments | ONLY_DATA)
        return call(reach, frame, frozenset(atom.functions), inner, node, text)
    if isinstance(atom, SuperOf):
        return ONLY_DATA
    if isinstance(atom, Instance):
        return _call_instance(reach, frame, atom, atom.cls, arguments, node)
    value = atom.value
    if issubclass(type(value), type):
        return _construct(reach, frame, atom, arguments, node)
    if type(value) is types.MethodType:
        function = reach.part_of(atom, "__func__") or NOTHING
        owner = reach.part_of(atom, "__self__") or NOTHING
        if is_harmless_function(value) and not _is_logger(value.__self__):
            return _call_known(reach, frame, value, arguments, node)
        definer = _definer(reach, value.__self__, value.__func__)
        return NOTHING.union(*(call_bound_to(reach, frame, f, owner, definer, arguments, node) for f in function))
    if type(value) is functools.partial:
        return _call_partial(reach, frame, atom, arguments, node, text)
    if type(value) is functools._lru_cache_wrapper:
        # The cache is written in C and calls the function without a lock, but hashes and compares what it is given.
        operate(reach, frame, arguments.all, node)
        return call(reach, frame, reach.part_of(atom, "__wrapped__") or NOTHING, arguments, node, text)
    if is_function(value):
        return call_function(reach, frame, atom, arguments, node)
    return _call_instance(reach, frame, atom, type(value), arguments, node)


def _definer(reach: Reach, owner: Any, function: Any) -> type | None:
    cls = owner if is_a(owner, type) else type(owner)
    name = read(function, "__name__")
    base, found = reach.holdings.of_class(cls, name) if name else (None, None)
    return (
        base
        if unpatched(found.__func__ if is_a(found, (classmethod, staticmethod)) else found) is unpatched(function)
        else None
    )


def _call_partial(reach: Reach, frame: Frame, atom: Held, arguments: Arguments, node: Any, text: str) -> Value:
    function = reach.part_of(atom, "func") or NOTHING
    given, named = atom.value.args, atom.value.keywords
    held = ONLY_DATA.union(reach.part_of(atom, "args") or NOTHING, reach.part_of(atom, "keywords") or NOTHING)
    if not named and all(each is not atom for each in given):
        positional = [reach.constant(each) if len(given) > 1 else held - ONLY_DATA or ONLY_DATA for each in given]
        inner = Arguments([*positional, *arguments.positional], arguments.keywords, arguments.rest, arguments.missing)
    else:
        inner = Arguments([], {}, arguments.all | held, arguments.missing)
    return call(reach, frame, function, inner, node, text)


def _call_bound(reach: Reach, frame: Frame, atom: Bound, arguments: Arguments, node: Any) -> Value:
    return call_bound_to(reach, frame, atom.function, frozenset([atom.owner]), atom.definer, arguments, node)


def call_bound_to(
    reach: Reach, frame: Frame, function: Any, owner: Value, definer: type | None, arguments: Arguments, node: Any
) -> Value:
    """A method is called."""
    inner = Arguments([owner, *arguments.positional], arguments.keywords, arguments.rest, arguments.missing)
    if isinstance(function, Held) and is_function(function.value):
        return call_function(reach, frame, function, inner, node, definer)
    return _call(reach, frame, function, inner, node, "this method")


def call_function(
    reach: Reach, frame: Frame, held: Held, arguments: Arguments, node: Any, definer: type | None = None
) -> Value:
    """A function, or a method with its instance first, is called."""
    patched = held.value
    function = original(unpatched(patched))
    if function is not patched:
        found = reach.holdings.constant(function)
        held = found if isinstance(found, Held) else held
    special = _SPECIAL.get(id(function))
    if special is not None:
        return special(reach, frame, arguments, node)
    if function is dspy_calls.CONTEXT:
        return dspy_calls.call_function(reach, frame, function, None, arguments, node)
    if definer is logging.LoggerAdapter or (definer is not None and issubclass(definer, logging.Logger)):
        return _log(reach, frame, function, definer, arguments, node)
    if is_harmless_function(function, definer):
        return _call_known(reach, frame, function, arguments, node)
    if dspy_calls.is_seam(function):
        return dspy_calls.call_seam(reach, frame, function, definer, arguments, node)
    inner = read(function, "__wrapped__")
    if inner is not None and is_code_of(function, "dspy") and not is_code_of(unpatched(inner), "dspy", "dspy_parallel"):
        # DSPy has put callbacks around it.
        inside = frozenset([reach.holdings.constant(inner)])
        return call(reach, frame, inside, arguments, node, name_of(function))
    is_local = definer is not None and "<locals>" in definer.__qualname__  # EnsembledProgram
    if is_code_of(function, "dspy", "dspy_parallel") and function.__name__ != "<lambda>" and not is_local:
        return dspy_calls.call_function(reach, frame, function, definer, arguments, node)
    if inner is not None and is_code_of(function, "pydantic"):
        return suspect(reach, frame, node, function)  # validate_call
    if is_code_of(function, "pydantic", "enum", "abc", "collections", "dataclasses", "typing"):
        return _call_known(reach, frame, function, arguments, node)
    if definer is not None and is_generated(function.__name__, function):
        return set_fields(reach, frame, definer, arguments, node)
    if is_a(function, types.FunctionType) and module_of(function).partition(".")[0] not in sys.stdlib_module_names:
        return _enter(reach, frame, node, held, arguments)
    return suspect(reach, frame, node, function, definer)


def _log(reach: Reach, frame: Frame, function: Any, definer: type, arguments: Arguments, node: Any) -> Value:
    for atom in arguments.positional[0] | {each for each in arguments.all if _is_logger(getattr(each, "value", None))}:
        logger = atom.value if isinstance(atom, Held) else logging.root
        while type(logger) is logging.LoggerAdapter:
            logger = logger.logger
        _listen(reach, frame, logger, node)
    if not is_harmless_function(function, definer):
        return suspect(reach, frame, node, function, definer)
    return _call_known(reach, frame, function, Arguments([], {}, arguments.all), node)


def _listen(reach: Reach, frame: Frame, logger: Any, node: Any) -> None:
    is_known = type(logger) in (logging.Logger, logging.RootLogger)
    is_quiet = is_known and is_heard_by_nobody(logger)
    if is_known:
        reach.holdings.loggers[logger] = is_quiet
    if not is_quiet:
        reach.need(frame, node, "unread", f"a handler or filter of the logger {getattr(logger, 'name', '')}")


def _enter(reach: Reach, frame: Frame, node: Any, function: Any, arguments: Arguments) -> Value:
    flags = function.value.__code__.co_flags if isinstance(function, Held) else 0
    if flags & inspect.CO_COROUTINE and not reach.follows_async(frame):
        return ONLY_DATA  # it runs where it is awaited: on an event loop in any case
    found = reach.enter(frame, getattr(node, "lineno", 0), function, arguments)
    if found is None:
        problem = source_of(function.value).problem if isinstance(function, Held) else ""
        if problem.endswith("may have effects"):
            problem = f"{function.value.__qualname__} is not known"
        reach.need(frame, node, "unread", problem or "it reaches more functions than can be looked through")
        return frozenset([UNKNOWN])
    return found


def _call_known(reach: Reach, frame: Frame, function: Any, arguments: Arguments, node: Any) -> Value:
    """A function that is known needs no thread, but what it is given may."""
    everything = arguments.all
    owners = arguments.positional[0] if arguments.positional else NOTHING
    if is_process_wide(function) or any(changes_environment(getattr(atom, "value", None), function) for atom in owners):
        reach.need(frame, node, "process-wide", f"{described(function)} changes what belongs to the whole process")
    returned = ONLY_DATA | everything
    if id(function) not in _CALL_NOTHING:
        returned |= _call_back(reach, frame, everything, node)
    owner = read(function, "__self__")
    if owner is not None and not is_a(owner, (types.ModuleType, type)) and type(owner) not in DATA_TYPES:
        reach.put(everything)
    if any(hands_out(getattr(atom, "cls", object)) for atom in owners):
        reach.put(NOTHING.union(*arguments.positional[1:], *arguments.keywords.values(), arguments.rest))
    if is_a(owner, contextvars.ContextVar) or name_of(function) == "ContextVar.get":
        return returned | {UNKNOWN}
    if function is isinstance or function is issubclass:
        ask_class(reach, frame, everything, NOTHING.union(*arguments.positional[:1]), node)
    elif function is bool:
        ask_truth(reach, frame, everything, node)
    elif function is not callable and function is not id:
        returned |= operate(reach, frame, everything, node)
    return returned | reach.heap


def _call_back(reach: Reach, frame: Frame, given: Value, node: Any) -> Value:
    """A function calls those of its arguments that can be called."""
    if given == ONLY_DATA:
        return NOTHING
    found = reach.remembered(("called back", given), lambda: _call_all(reach, frame, given, node))
    return found or NOTHING


def _call_all(reach: Reach, frame: Frame, given: Value, node: Any) -> Value:
    found = NOTHING
    rest = Arguments([], {}, given | ONLY_DATA | reach.heap)
    for atom in given:
        if isinstance(atom, (Closure, Bound, Partial)):
            found |= _call(reach, frame, atom, rest, node, "an argument")
        elif isinstance(atom, Held) and callable(atom.value):
            if not (is_a(atom.value, type) and issubclass(atom.value, BaseException)):
                found |= _call(reach, frame, atom, rest, node, "an argument")
        elif isinstance(atom, Instance) and has_call(atom.cls):
            found |= _call(reach, frame, atom, rest, node, "an argument")
    return found


def call_method(
    reach: Reach, frame: Frame, value: Value, name: str, arguments: Arguments, node: Any, text: str
) -> Value:
    """`value.name(...)`."""
    found = NOTHING
    for atom in value:
        if atom is DATA:
            if is_hidden(name) or name in ("send", "throw"):  # of coroutines
                found |= reach.need(frame, node, "unread", f"{text} is not known")
                continue
            known = reach.before_call(frame, atom, arguments, node, text)
            found |= _call_data(reach, frame, name, value, arguments, node) if known is None else known
            if name not in _METHOD_NAMES:
                found |= call(reach, frame, (value | reach.heap) - ONLY_DATA, arguments, node, text)
        else:
            found |= call(reach, frame, attribute(reach, frame, atom, name, node, text), arguments, node, text)
    return found


def _call_data(reach: Reach, frame: Frame, name: str, owner: Value, arguments: Arguments, node: Any) -> Value:
    """A method of plain data: it returns data, what is in it, or what it is given."""
    given = arguments.all
    reach.put(given)
    if name in ("format", "format_map") and any(_runs_code(atom) for atom in given):
        reach.need(frame, node, "unread", "str.format may read properties of what it is given, which")
    operate(reach, frame, given | (owner - ONLY_DATA), node)
    found = ONLY_DATA | owner | given | reach.heap
    if name in _CALLING_METHODS:
        reach.put(owner - ONLY_DATA if given != ONLY_DATA else NOTHING)  # `sort(key=)` calls it with the items
        found |= _call_back(reach, frame, given, node)
    return found


def _runs_code(atom: Any) -> bool:
    return isinstance(atom, Instance) or (isinstance(atom, Held) and not is_a(atom.value, type))


# Classes


def _construct(reach: Reach, frame: Frame, held: Held, arguments: Arguments, node: Any) -> Value:
    cls: type = held.value
    everything = arguments.all
    if cls is functools.partial:
        return _make_partial(reach, frame, arguments, node)
    if cls is type:
        return _type_of(reach, frame, arguments, node)
    if cls is super:
        return super_of(reach, frame, arguments, node)
    if is_data_class(cls) or (is_harmless_class(cls) and not issubclass(cls, pathlib.PurePath)):
        if is_process_wide(cls):
            reach.need(frame, node, "process-wide", f"{described(cls)} changes what belongs to the whole process")
        operate(reach, frame, everything, node)
        returned = ONLY_DATA | everything
        return returned if id(cls) in _CALL_NOTHING else returned | _call_back(reach, frame, everything, node)
    return construct(reach, frame, held, arguments, node)


def _make_partial(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    made = frame.partials.setdefault(id(node), Partial())
    reach.grow(made.functions, arguments.positional[0] if arguments.positional else arguments.rest)
    reach.grow(made.arguments, NOTHING.union(*arguments.positional[1:], *arguments.keywords.values(), arguments.rest))
    return frozenset([made])


def _type_of(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    if len(arguments.positional) != 1:
        return reach.need(frame, node, "unread", "a class that is made while the program runs is not known")
    found: set[Any] = set()
    for atom in arguments.positional[0]:
        cls = atom.cls if isinstance(atom, (Held, Instance)) else None
        found |= ONLY_DATA if cls is None else reach.constant(cls)
    return frozenset(found)


# Objects that are called


def _call_instance(reach: Reach, frame: Frame, atom: Any, cls: type, arguments: Arguments, node: Any) -> Value:
    if issubclass(cls, dspy_calls.OBJECTS):
        found = reach.remembered(
            (atom, arguments.all, arguments.keywords.get("lm")),
            lambda: dspy_calls.call_object(reach, frame, atom, cls, arguments, node),
        )
        if found is not None:
            return found
    base, found = reach.holdings.of_class(cls, "__call__")
    if base is None:
        return NOTHING  # it cannot be called: a TypeError
    if is_function(found) and base not in CALLERS:
        held = reach.holdings.constant(found)
        return call_bound_to(reach, frame, held, frozenset([atom]), base, arguments, node)
    return suspect(reach, frame, node, cls)


# Builtins that are not like all others


def _get(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    owner = arguments.positional[0] if arguments.positional else arguments.rest
    name = constant_name(node, arguments)
    others = NOTHING.union(*arguments.positional[2:])
    if name is None:
        if owner != ONLY_DATA:
            reach.need(frame, node, "unread", "an attribute whose name is not known")
        return ONLY_DATA | others
    return others.union(*(attribute(reach, frame, atom, name, node, name) for atom in owner))


def _set(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    name = constant_name(node, arguments)
    if len(arguments.positional) == 3:
        owner, _, value = arguments.positional
        for atom in owner:
            if name is None and isinstance(atom, (Held, Instance)):
                reach.need(frame, node, "unread", "an attribute whose name is not known")
            assign_attribute(reach, frame, atom, name or "*", value, node, name or "an attribute")
    return ONLY_DATA


def _get_logger(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    operate(reach, frame, arguments.all, node)
    there = logging.root.manager.loggerDict
    asked = next(iter([*getattr(node, "args", []), *(each.value for each in getattr(node, "keywords", []))]), None)
    if arguments.rest:  # it stands in another call: of a partial, say
        asked = node
    name: Any = asked.value if isinstance(asked, ast.Constant) else None
    if isinstance(asked, ast.Name) and asked.id == "__name__":
        name = frame.globals.get("__name__")
    if asked is not None and not isinstance(name, str):  # any that there is
        for logger in there.values():
            if isinstance(logger, logging.Logger):
                _listen(reach, frame, logger, node)
        name = None
    while name and not isinstance(there.get(name), logging.Logger):  # none yet: it will be told to the one above
        name = name.rpartition(".")[0]
    _listen(reach, frame, there[name] if name else logging.root, node)
    return ONLY_DATA


def _print(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    if not is_stream_known(sys.stdout):
        reach.need(frame, node, "unread", f"sys.stdout, which is {described(type(sys.stdout))},")
    return _call_known(reach, frame, print, arguments, node)


def _replace(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    """`dataclasses.replace()` calls the class."""
    owners = arguments.positional[0] if arguments.positional else arguments.rest
    classes = NOTHING.union(*(reach.constant(atom.cls) for atom in owners - ONLY_DATA if hasattr(atom, "cls")))
    return call(reach, frame, classes, Arguments([], {}, ONLY_DATA | arguments.all), node, "this class")


def _warn(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> Value:
    shown = reach.global_of(warnings.__dict__, "showwarning") or NOTHING
    if warnings.showwarning is not warnings.__dict__["_showwarning_orig"]:
        call(reach, frame, shown, Arguments([], {}, ONLY_DATA), node, "warnings.showwarning")
    return _call_known(reach, frame, warnings.warn, arguments, node)


def _is_logger(value: Any) -> bool:
    return issubclass(type(value), (logging.Logger, logging.LoggerAdapter))


_SPECIAL: dict[int, Callable[[Reach, Frame, Arguments, Any], Value]] = {
    id(builtins.getattr): _get,
    id(builtins.hasattr): _get,
    id(builtins.setattr): _set,
    id(logging.getLogger): _get_logger,
    id(builtins.print): _print,
    id(object.__setattr__): _set,
    id(dataclasses.replace): _replace,
    id(original(unpatched(warnings.warn))): _warn,
}
