"""Decides where a program runs under `engine="auto"`: on the event loop, or in a thread of its own.

It is decided before the program's first run, from its code and from what that reaches, and always the same way: the
loop if all of it is known neither to block nor to depend on its thread. Where that is not known, a thread, which is
always right. What was decided holds as long as all that was looked at is as it was.
"""

from __future__ import annotations

import functools
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, cast

import dspy

from ..placement import Placement
from .abstract_values import ONLY_DATA, UNKNOWN, Value
from .dspy_calls import current_setting
from .harmless_calls import DATA_TYPES, is_a, is_data
from .held_values import LEAF, Held
from .reach import Arguments, Decided, Need, Reach, TooMuchCodeError
from .reached_code import new_reach

__all__ = ["Need", "decided", "placement_for", "placement_for_class"]

MOST_PROGRAMS = 1000
"""Pieces of code that are remembered; those that are made anew for each run have no end of them."""
MOST_VARIANTS = 8
"""Decisions that are remembered for one piece of code, which may hold different things."""


class _Decision:
    """Where a program runs, and what that depends on."""

    def __init__(self, program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        reach = new_reach(Reach)
        needs = _look(reach, program, args, kwargs, first_only=True)
        self._program, self._arguments = reach.root  # type: ignore[attr-defined]
        self._settings = list(reach.settings.items())
        self._holdings = reach.holdings
        for part in (self._program, *self._arguments.values(), *reach.settings.values()):
            if part is not LEAF:
                part.freeze()
        self._holdings.freeze()
        need = next((need for need in needs if need.kind != "process-wide"), None)
        self.placement = Placement(
            _name(program),
            "loop" if need is None else "thread",
            "" if need is None else str(need),
            "" if need is None else need.filename,
            0 if need is None else need.line,
        )

    def holds(self, program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether all that it depends on is as it was."""
        seen: set[tuple[int, int]] = set()
        if self._program is not LEAF and not self._program.matches(program, seen):
            return False
        others = self._arguments
        for key, value in (*enumerate(args), *kwargs.items()):
            part = others.get(key)
            if part is None or part is LEAF:
                if type(value) not in DATA_TYPES and not is_data(value):
                    return False
            elif not part.matches(value, seen):
                return False
        if any(part is not LEAF and key not in kwargs and not _is_position(key, args) for key, part in others.items()):
            return False
        for name, part in self._settings:
            value = current_setting(name)
            if not (is_data(value) if part is LEAF else part.matches(value, seen)):
                return False
        return self._holdings.hold_still()


class _Then:
    """Marks what is called with a program's result."""

    def __init__(self, function: Any) -> None:
        self.function = function


def _is_position(key: Any, args: tuple[Any, ...]) -> bool:
    return isinstance(key, int) and key < len(args)


def _look(
    reach: Reach, program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, first_only: bool = False
) -> list[Need]:
    held = reach.holdings.hold(program)
    arguments: dict[Any, Any] = {}
    values: dict[Any, Value] = {}
    for key, value in (*enumerate(args), *kwargs.items()):
        arguments[key] = reach.holdings.hold(value)
        values[key] = reach.value_of(value, arguments[key])
    reach.root = held, arguments  # type: ignore[attr-defined]
    given = Arguments(
        [value for key, value in values.items() if isinstance(key, int)],
        {key: value for key, value in values.items() if isinstance(key, str)},
        frozenset().union(*(value for key, value in values.items() if isinstance(key, tuple))),
        ONLY_DATA,  # a parameter for which nothing is given is taken for data
    )
    frame: Any = None
    try:
        if type(program) is _Made:
            return _look_at_class(reach, program.cls)
        reach.is_decided = first_only
        found = reach.call(frame, reach.value_of(program, held), given, None, _name(program))
        after = given.rest - ONLY_DATA
        for atom in after:
            if isinstance(atom, Held) and atom.cls is _Then:
                then = reach.part_of(atom, "function") or ONLY_DATA
                reach.call(frame, then, Arguments([], {}, given.rest | found), None, "what is called with the result")
        reach.finish()
    except Decided:
        pass
    except TooMuchCodeError as error:
        reach.needs[Need("unread", str(error))] = None
    except Exception as error:  # a fault of ours must not stop the program; a thread is always right
        reach.needs[Need("unread", f"it cannot be looked through ({type(error).__name__}: {error})")] = None
    return list(reach.needs)


def _look_at_class(reach: Reach, cls: type) -> list[Need]:
    instance = reach.call(cast("Any", None), reach.constant(cls), Arguments(missing=frozenset([UNKNOWN])), None, "")
    reach.finish()
    # Where an instance is made matters nothing; what its attributes are is known now.
    reach.needs.clear()
    reach.frames.clear()
    reach.call(cast("Any", None), instance, Arguments(missing=ONLY_DATA), None, cls.__qualname__)
    reach.finish()
    return list(reach.needs)


_on_loop: weakref.WeakKeyDictionary[Any, Placement] = weakref.WeakKeyDictionary()


def _record(program: Any, placement: Placement) -> Placement:
    """The record of a decision: on the loop, one for all decisions about a class of modules, or the code of a function.

    If that turns out to compute for long, it does so whatever it holds and however it is called, and leaves the loop
    once.
    """
    if placement.engine == "thread":
        return placement
    owner: Any = _owner(program)
    function: Any = program
    while type(function) in (functools.partial, types.MethodType):
        function = function.func if type(function) is functools.partial else function.__func__
    key: Any = type(function)
    if is_a(owner, dspy.Module):
        key = type(owner)
    elif key is types.FunctionType:
        # A closure may be anybody's decorator around another program.
        key = function if function.__closure__ else function.__code__
    return _on_loop.setdefault(key, placement)


_decisions: OrderedDict[tuple[int, int], list[_Decision]] = OrderedDict()
_lock = threading.RLock()
_last: dict[int, tuple[Any, Placement]] = {}


def decided() -> list[Placement]:
    """Where programs run that have been decided on, the last decision for each."""
    with _lock:
        return list({known[0].placement.name: known[0].placement for known in _decisions.values()}.values())


def _key(program: Any) -> tuple[int, int]:
    """Programs that are made of the same code are looked up together."""
    cls = type(program)
    if cls is functools.partial:
        return _key(program.func)[0], id(type(_owner(program)))
    if cls is types.MethodType:
        return _key(program.__func__)[0], id(type(program.__self__))
    if cls is _Made:
        return id(program.cls), 2
    if cls is types.FunctionType:
        return id(program.__code__), 0
    return (id(program), 0) if issubclass(cls, type) else (id(cls), 1)


def _owner(program: Any) -> Any:
    """The instance whose method it is."""
    if type(program) is functools.partial:
        return program.args[0] if program.args else None
    return program.__self__ if type(program) is types.MethodType else program


def _decision(program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Decision:
    key = _key(program)
    known = _decisions.get(key)
    if known is not None:
        for decision in known:
            if decision.holds(program, args, kwargs):
                return decision
    with _lock:
        decision = _Decision(program, args, kwargs)
        decision.placement = _record(program, decision.placement)
        _decisions[key] = [decision, *(known or [])[: MOST_VARIANTS - 1]]
        _decisions.move_to_end(key)
        owner = _owner(program)
        if is_a(owner, dspy.Module):
            _of_classes[type(owner)] = decision.placement
        while len(_decisions) > MOST_PROGRAMS:
            _decisions.popitem(last=False)
    return decision


def placement_for(
    program: Callable[..., Any],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] = MappingProxyType({}),
    rest: tuple[Any, ...] = (),
    then: Callable[..., Any] | None = None,
) -> Placement:
    """Where a program is to run that is about to be started with these arguments.

    Args:
        program: A function, a bound method, a partial, or an object that can be called.
        args: What it is called with. Of data only the types matter.
        kwargs: Likewise.
        rest: What may be given for any of its parameters.
        then: What is called with its result.

    Returns:
        The record of the decision; the same one as long as nothing that it depends on has changed.
    """
    if then is not None:
        rest = (*rest, _Then(then))
    named: Mapping[Any, Any] = kwargs
    if rest:
        named = {**kwargs, **{(number,): value for number, value in enumerate(rest)}}
    return _decision(program, args, named).placement


_of_classes: weakref.WeakKeyDictionary[type, Placement] = weakref.WeakKeyDictionary()


def placement_for_class(cls: type) -> Placement:
    """What was decided last for an instance of a class; before there was one, what its code says of itself."""
    known = _of_classes.get(cls)
    return known if known is not None else _decision(_Made(cls), (), {}).placement


class _Made:
    """Stands for an instance of a class that nobody has made yet."""

    def __init__(self, cls: type) -> None:
        self.cls = cls


def _name(program: Any) -> str:
    if type(program) is _Made:
        program = program.cls
    while type(program) in (functools.partial, types.MethodType):
        program = program.func if type(program) is functools.partial else program.__func__
    named = program if is_a(program, (type, types.FunctionType, types.BuiltinFunctionType)) else type(program)
    return f"{named.__module__}.{named.__qualname__}"
