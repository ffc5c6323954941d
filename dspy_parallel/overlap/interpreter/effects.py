"""Whether the program can be followed past a piece of code before that piece has run.

Only if everything that the piece calls is known, and what it may change is known, too.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import inspect
import os
import random
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dspy
import pydantic
from pydantic.fields import FieldInfo

from ...analysis import effect_free, searches
from ...analysis.def_use import MUTATORS, Facts, facts_of, parameters_of
from ...analysis.managers import LOCKS, generator_of, methods_of_manager, sets_context
from ...analysis.source import source_of
from ...analysis.third_party_loggers import is_logger, logger_made, why_heard
from ...analysis.trusted_types import (
    SCALARS,
    is_code_of,
    is_dataclass,
    is_known,
    is_limit,
    is_made_plainly,
    is_model,
    is_plain,
)
from ..runtime.thunks import Pending
from .call_targets import (
    UNKNOWN,
    Parameter,
    argument_for,
    call_of_object,
    call_targets,
    first_argument,
    is_harmless_method,
    is_known_method,
    is_object,
    name_of,
    peek,
    why_not_called,
    why_not_with,
)
from .frame import Frame, LocalFunction
from .interpreter import Verdicts
from .summaries import Effects
from .written_containers import add_attribute, add_named, are_fresh, is_object_of

__all__ = [
    "Effects",
    "are_none",
    "asked_for",
    "is_made_quietly",
    "is_model_made_quietly",
    "of",
    "of_arguments",
    "of_callee",
    "of_function",
]


def of(frame: Frame, facts: Facts, *, yields: bool = False) -> Effects:
    """For a piece of code in this frame, which may be a part of a context manager's generator."""
    if facts.unknown or (facts.yields and not yields):
        return Effects(facts.unknown or "`yield`")
    frame.interpreter.snapshot.assigned |= facts.attributes_assigned
    names = facts.writes | {root for root, _ in facts.attributes_set if not is_object_of(frame, root, facts)}
    found = Effects(
        attributes_read=set(facts.attributes_read), attributes_set={name for _, name in facts.attributes_set}
    )
    for name in names:
        add_named(frame, found, name, facts)
    for node in facts.reached:
        add_attribute(frame, found, node, facts)
    added = [name for name in facts.adds if name in facts.exposed or name not in facts.bindings]
    found.added_to = frame.values_of(added)
    if not all(are_fresh(frame, name, facts) for name in facts.adds) or any(map(is_object, found.added_to)):
        found.writes_all = True
    found.writes_outside |= found.writes_all or not all(map(frame.knows, added))
    for call in facts.calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr in found.attributes_set:
            return Effects(f"`{call.func.attr}` is set and called here")
        inner = _of_call(frame, call, facts)
        if inner.barrier:
            return inner
        found.include(inner)
    for context in facts.contexts:
        found.include(_of_context(frame, context, facts))
    _include_properties(frame, found, facts)
    return found


def _include_properties(frame: Frame, found: Effects, facts: Facts) -> None:
    """What reading an attribute does, if an object that the program may meet has a property of that name.

    Without it, `[self.ask(q=self.turn) for _ in range(2)]` with a `turn` that counts up would ask the same twice.
    """
    methods = frame.interpreter.snapshot.methods(frame.function)
    for name in facts.attributes_read & methods.keys():
        for getter in (each for each in methods[name] if type(each) is property):
            values = frame.values_of(facts.loads)
            owners = [each for each in values if any(vars(base).get(name) is getter for base in type(each).__mro__)]
            found.include(of_function(frame, getter.fget, *owners[:1]))


def _of_context(frame: Frame, node: ast.expr, facts: Facts) -> Effects:
    """For what is entered by `with`."""
    managers = call_targets(frame, node.func if isinstance(node, ast.Call) else node, facts)
    found = Effects("" if managers is not None else f"`with {ast.unparse(node)}` may have effects")
    for manager in managers or ():
        is_made = isinstance(node, ast.Call)
        is_known_one = any(manager is each for each in (dspy.track_usage, contextlib.nullcontext, contextlib.suppress))
        is_lock = any((manager if is_made else type(manager)) is each for each in LOCKS)
        if is_known_one or is_lock or sets_context(manager):
            continue
        generator = generator_of(manager) if is_made else None
        methods = methods_of_manager(manager if isinstance(manager, type) else type(manager))
        if generator is not None:
            found.include(of_function(frame, generator, getattr(manager, "__self__", UNKNOWN), yields=True))
        elif methods is None or isinstance(manager, type) is not is_made:
            found.include(Effects(f"`with {ast.unparse(node)}` may have effects"))
        else:
            owner = _blank(frame, manager) if is_made else manager
            found.include(of_callee(frame, manager) if is_made else Effects())
            for method in methods:
                found.include(of_function(frame, method, owner))
    return found


def _blank(frame: Frame, cls: type) -> Any:
    """An instance of a class, as `__init__` finds it."""
    blanks = frame.interpreter.blanks
    if cls not in blanks:
        blanks[cls] = frame.interpreter.snapshot.blank(cls)
    return blanks[cls]


def of_function(frame: Frame, function: Any, first: Any = UNKNOWN, *, yields: bool = False) -> Effects:
    """For a function whose first argument, if it is a method, is known; or the generator of a context manager."""
    function = getattr(function, "__overlap_original__", function)
    key = (id(function.node), None) if isinstance(function, LocalFunction) else (id(function), id(first), yields)
    verdicts: Verdicts = frame.interpreter.verdicts
    if key in verdicts.known:
        known: Effects = verdicts.known[key][-1]
        return known
    if key in verdicts.open:  # it calls itself: what it does is seen where it began
        verdicts.reach = min(verdicts.reach, verdicts.open.index(key))
        return Effects(may_call=True)
    depth = len(verdicts.open)
    verdicts.open.append(key)
    try:
        found = _look_into(frame, function, first, yields=yields)
    finally:
        verdicts.open.pop()
    if verdicts.reach < depth:
        return found  # not all of it, as it is part of one that calls itself
    verdicts.reach = sys.maxsize
    if not isinstance(function, LocalFunction):  # which depends on the names around it
        verdicts.known[key] = function, first, found
    return found


def _look_into(frame: Frame, function: Any, first: Any, *, yields: bool) -> Effects:
    if isinstance(function, LocalFunction):
        node: Any = function.node
        outer, inside = function.frame, None
    else:
        source = source_of(function, any_kind=yields)
        if source.node is None:
            return Effects(source.problem)
        node, outer, inside = source.node, None, function
    parameters = parameters_of(node.args)
    names: dict[str, Any] = {name: Parameter(name) for name in parameters}
    if parameters and inside is not None and first is not UNKNOWN:
        has_first = node.args.posonlyargs or node.args.args
        if has_first or node.args.vararg is not None:
            names[parameters[0] if has_first else node.args.vararg.arg] = first if has_first else (first,)
    facts = facts_of(node.body)
    scope = Frame(frame.interpreter, frame.fiber, names, function=inside, node=node, outer=outer)
    return _from_outside(of(scope, facts, yields=yields))


def _from_outside(inner: Effects) -> Effects:
    # What a parameter stands for may be anything that the function is given.
    written = [*inner.written, *inner.added_to]
    is_given = any(type(value) is Parameter for value in (*written, *inner.touched))
    return replace(
        inner,
        written=[value for value in written if type(value) is not Parameter],
        touched=[value for value in inner.touched if type(value) is not Parameter],
        added_to=[],
        writes_all=inner.writes_all or is_given,
    )


def _of_call(frame: Frame, call: ast.Call, facts: Facts) -> Effects:
    callees = call_targets(frame, call.func, facts)
    if callees is None:
        is_harmless = isinstance(call.func, ast.Attribute) and _is_harmless_call(frame, call.func, facts)
        found = Effects("" if is_harmless else f"`{ast.unparse(call.func)}()` may have effects")
    else:
        found = Effects(may_call=not callees)
        first = first_argument(frame, call, facts)
        for callee in callees:
            if callee is next and not isinstance(call.args[0], (ast.GeneratorExp, ast.Call)):
                return Effects(f"`{ast.unparse(call)}` changes what it is given")
            if reason := why_not_with(frame, callee, call, facts):
                return Effects(reason)
            inner = of_callee(frame, callee, first)
            found.include(replace(inner, parameters=set()))
            for name in inner.parameters:
                found.include(_ofargument_for(frame, argument_for(callee, call, name), facts))
    for keyword in call.keywords:
        if keyword.arg == "key":
            found.include(_ofargument_for(frame, keyword.value, facts))
    return found


def _is_harmless_call(frame: Frame, method: ast.Attribute, facts: Facts) -> bool:
    owner = peek(frame, method.value, facts)
    if effect_free.is_builtin(type(owner)):
        return is_known_method(method.attr)
    return is_harmless_method(frame, method.attr)


def _ofargument_for(frame: Frame, node: ast.expr | None, facts: Facts) -> Effects:
    """For an argument, which is going to be called."""
    found = Effects(may_call=True)
    given = None if node is None else call_targets(frame, node, facts)
    if given is None:
        return Effects("what is called is not known")
    for each in given:
        inner = of_callee(frame, each)
        if inner.parameters:
            return Effects("what is called is not known")
        found.include(inner)
    return found


def of_callee(frame: Frame, callee: Any, first: Any = UNKNOWN) -> Effects:
    """For calling something, perhaps with a first argument that is known."""
    if type(callee) is Parameter:
        return Effects(may_call=True, parameters={callee.name})
    callee = getattr(callee, "__overlap_original__", callee) if isinstance(callee, types.FunctionType) else callee
    while isinstance(callee, functools.partial):
        callee = callee.func
    declaration = effect_free.declared(callee)
    if declaration is not None:
        return Effects(f"{name_of(callee)} is declared @ordered" if declaration == "ordered" else "", may_call=True)
    if searches.is_retriever(callee):
        return Effects(searches.why_not_searched(callee, dspy.settings.rm), may_call=True)
    if isinstance(callee, LocalFunction):
        return of_function(frame, callee)
    if type(callee) in RUN_WHOLE:
        return of_whole(frame, callee)
    if isinstance(callee, type) and callee in MODULES:
        return Effects()
    if isinstance(callee, dspy.Module):
        if type(callee) is dspy.Predict or why_not_called(callee):
            return Effects(why_not_called(callee), may_call=True)
        forward: Any = vars(callee).get("forward") or getattr(type(callee), "forward", None)
        if isinstance(forward, types.MethodType):
            forward = forward.__func__
        return (
            of_function(frame, forward, callee)
            if isinstance(forward, types.FunctionType)
            else Effects(f"`forward` of {type(callee).__qualname__} is no plain function")
        )
    if callee is map or callee is filter:
        return Effects(may_call=True, parameters={"function"})
    if effect_free.is_structural(callee) or effect_free.is_pure_function(callee) or effect_free.is_silent(callee):
        return Effects()
    if isinstance(callee, types.MethodType) and is_logger(type(callee.__self__)):
        is_maker = logger_made(callee, [], {}) is not None
        return Effects("" if is_maker else why_heard(callee))
    if logger_made(callee, [], {}) is not None:
        return Effects()
    if effect_free.is_harmless(callee):
        return Effects(may_call=True)
    if callee is os.getenv:
        return Effects()
    if isinstance(callee, type) and (effect_free.is_pure_class(callee) or is_model_made_quietly(frame, callee)):
        return Effects()
    if callee is random.Random:
        return Effects()
    if isinstance(callee, type) and is_made_plainly(callee):
        init = inspect.getattr_static(callee, "__init__")
        return of_function(frame, init, _blank(frame, callee)) if isinstance(init, types.FunctionType) else Effects()
    if isinstance(callee, types.MethodType) and isinstance(callee.__func__, types.FunctionType):
        if effect_free.is_reader_of_model(callee):
            return Effects()
        if effect_free.is_validator_of_model(callee):
            return of_callee(frame, callee.__self__)
        if callee.__func__ is dspy.Module.__init__:
            return Effects()
        if str(callee.__func__.__module__).startswith("dspy."):
            is_reader = callee.__name__ in effect_free.MODULE_READERS
            return Effects("" if is_reader else f"{name_of(callee)} may have effects")
        return of_function(frame, callee.__func__, callee.__self__)
    if isinstance(callee, types.FunctionType):
        return of_function(frame, callee, first)
    if isinstance(callee, types.BuiltinMethodType) and effect_free.is_builtin(type(callee.__self__)):
        return Effects(written=[callee.__self__] if callee.__name__ in MUTATORS else [])
    if (function := call_of_object(callee)) is not None:
        return of_function(frame, function, callee)
    return Effects(f"{name_of(callee)} may have effects")


def asked_for(hint: Any, seen: set[type]) -> Iterator[Any]:
    """Whoever has a say when Pydantic makes a value of this type: classes of the user's, and notes on a type.

    In `class Book(BaseModel): by: list[Annotated[Author, AfterValidator(known)]]`, that is Author and `known`, too.
    """
    if effect_free.is_pure_type(hint) or any(hint is each for each in seen):
        return
    parts: Any = typing.get_args(hint)
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        seen.add(hint)
        yield hint
        if issubclass(hint, pydantic.BaseModel):
            parts = [info.annotation for info in hint.model_fields.values()]
        elif typing.is_typeddict(hint):
            parts = typing.get_type_hints(hint, include_extras=True).values()
    elif typing.get_origin(hint) is typing.Annotated:
        yield from parts[1:]
        parts = parts[:1]
    elif not parts:
        inner = getattr(hint, "__value__", getattr(hint, "__supertype__", None))  # `type Name = ...`, and `NewType`
        yield from [hint] if inner is None else []
        parts = [inner]
    for part in parts:
        yield from asked_for(part, seen)


def is_made_quietly(frame: Frame, part: Any) -> bool:
    """Whether one of those that Pydantic asks runs no code but such as has no effects."""
    if not isinstance(part, type):
        return _is_quiet_note(frame, part)
    if effect_free.declared(part) == "pure" or is_known(part):
        return True
    if not issubclass(part, pydantic.BaseModel):
        # What Pydantic does with others is written in C, or theirs.
        return issubclass(part, dict) and typing.is_typeddict(part)
    decorators: Any = part.__pydantic_decorators__
    validators = [
        each.func
        for kind in ("validators", "field_validators", "root_validators", "model_validators")
        for each in getattr(decorators, kind).values()
    ]
    after: Any = part.model_post_init
    own = [] if after is pydantic.BaseModel.model_post_init else [after]
    quiet = [are_none(frame, each) for each in (*validators, *own)]
    quiet += [_is_quiet_note(frame, each) for each in part.model_fields.values()]
    is_copied = part.model_config.get("from_attributes")  # of any object, whose properties are code, too
    return part.__init__ is pydantic.BaseModel.__init__ and not is_copied and all(quiet)


def _is_quiet_note(frame: Frame, note: Any) -> bool:
    """The same for what is said of a field, or of a type in an annotation."""
    kind = type(note)
    if kind is FieldInfo:
        functions = [note.default_factory, note.discriminator]
        return all(_is_quiet_note(frame, each) for each in note.metadata) and all(
            each is None or isinstance(each, str) or are_none(frame, each) for each in functions
        )
    if is_limit(note) or kind in SCALARS:
        return True
    values = [getattr(note, each.name) for each in dataclasses.fields(note)] if is_dataclass(kind) else [note]
    return is_known(kind) and all(are_none(frame, each) for each in values if callable(each) or each is note)


def are_none(frame: Frame, function: Any) -> bool:
    """Whether a function has no effects, but for attributes of its first argument."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return effect_free.is_pure_function(function) or any(function is each for each in effect_free.FACTORIES)
    found = of_function(frame, function, _SELF)
    return not (found.barrier or found.may_call or found.changes_containers)


def is_model_made_quietly(frame: Frame, cls: type) -> bool:
    """Whether making one of the program's data has no effects, for a model of which the scout can have copies."""
    is_copied = issubclass(cls, pydantic.BaseModel) and is_model(cls) and is_plain(cls)
    return is_copied and all(is_made_quietly(frame, each) for each in asked_for(cls, set()))


MODULES = (dspy.Predict, dspy.ChainOfThought, dspy.MultiChainComparison, dspy.Retrieve, dspy.ReAct, dspy.BestOfN)
"""What the scout makes as the program does."""

RUN_WHOLE = (dspy.ReAct, dspy.BestOfN)
"""What it runs as it is, if what these are given has no effects: tools, a module and its reward.

Not `dspy.Refine`: it makes an adapter's class for each attempt, so that no two of its calls are known to be equal.
"""


def of_whole(frame: Frame, module: Any) -> Effects:
    """For a module that is run as it is."""
    found = Effects(may_call=True)
    kind: Any = type(module)
    is_agent = kind is dspy.ReAct
    functions = [tool.func for tool in module.tools.values()] if is_agent else [module.module, module.reward_fn]
    for function in functions:
        if is_agent and is_code_of(function, "dspy"):
            continue
        inner = of_callee(frame, function)
        if (
            inner.barrier
            or inner.parameters
            or inner.writes_all
            or inner.written
            or inner.touched
            or inner.attributes_set
        ):
            what = f"the tool {name_of(function)}" if is_agent else f"what a {kind.__name__} is made of"
            return Effects(f"{what} may have effects (declare it @pure)")
        found.include(inner)
    return found


_SELF = object()
"""Stands for a new instance of whatever."""


def of_arguments(frame: Frame, found: Effects, names: dict[str, Any]) -> Effects:
    """For a function that is called with these arguments."""
    if not found.parameters:
        return found
    whole = replace(found, written=list(found.written), parameters=set())
    for name in found.parameters:
        value = names.get(name, UNKNOWN)
        is_unknown = value is UNKNOWN or type(value) is Pending
        inner = Effects("what is called is not known") if is_unknown else of_callee(frame, value)
        whole.include(inner)
        whole.barrier = whole.barrier or ("what is called is not known" if inner.parameters else "")
    return whole
