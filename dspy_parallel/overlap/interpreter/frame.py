"""Where a piece of the program is interpreted: its names, its fiber, its place in the source."""

from __future__ import annotations

import builtins
import copy
import functools
import operator
import types
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from ...analysis import effect_free
from ...analysis.def_use import facts_of, parameters_of
from ...analysis.source import source_of
from ...analysis.trusted_types import SCALARS, is_builtin_method, untrusted_reason
from ..runtime.attempts import Raised
from ..runtime.fibers import Fiber
from ..runtime.thunks import UNBOUND, BailOut, Pending
from .interpreter import Interpreter

__all__ = [
    "Frame",
    "Iterating",
    "LocalFunction",
    "Returned",
    "blockers",
    "check_plain",
    "children",
    "raising",
    "reachable",
]


def check_plain(*values: Any, only_data: bool = False, as_text: bool = False) -> None:
    """Refuse values that run the user's code when one looks into them, see `trusted_types.untrusted_reason()`."""
    reason = untrusted_reason(*values, only_data=only_data, as_text=as_text)
    if reason:
        raise BailOut(reason)


def raising(op: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Do what the program does: what it raises, the program raises."""
    try:
        return op(*args, **kwargs)
    except Exception as exc:
        raise Raised(exc.with_traceback(None)) from None


class Iterating(NamedTuple):
    """A call that gives an iterator or a view, and has yet to be made."""

    callee: Any


class LocalFunction:
    """A function or lambda that the program defined, and the scout calls itself."""

    __slots__ = ("defaults", "frame", "is_settled", "keyword_defaults", "node")

    def __init__(self, node: Any, frame: Frame, defaults: tuple[Any, ...], keyword_defaults: dict[str, Any]) -> None:
        self.node = node
        self.frame = frame
        self.defaults = defaults
        self.keyword_defaults = keyword_defaults
        own = parameters_of(node.args)
        self.is_settled = all(frame.is_settled(name) for name in facts_of(node).captured if name not in own)

    def at(self, fiber: Fiber, memo: dict[int, Frame] | None = None) -> LocalFunction:
        """The same for another fiber: it sees the names around it as they are now."""
        return self._around(self.frame.at(fiber, memo))

    def seen_from(self, frame: Frame) -> LocalFunction:
        """The same where it is used: the names around it are read when it is called, not when it was made."""
        around: Frame | None = frame
        while around is not None:
            if around.origin is self.frame.origin:
                return self if around is self.frame else self._around(around)
            around = around.outer
        if not self.is_settled and self.frame.fiber is not frame.fiber:
            raise BailOut("the names around a function may have changed since it was made")
        return self

    def _around(self, frame: Frame) -> LocalFunction:
        partner = copy.copy(self)
        partner.frame = frame
        return partner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Nobody but the scout can call it."""
        raise BailOut("a function of the program's own was about to be called by somebody else")


class Returned:
    """How a body was left: with this value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Frame:
    """One call of a function, or a comprehension in it, as far as one fiber works on it."""

    def __init__(
        self,
        interpreter: Interpreter,
        fiber: Fiber,
        names: dict[str, Any],
        *,
        function: types.FunctionType | None = None,
        node: Any = None,
        outer: Frame | None = None,
        caller: Frame | None = None,
        is_comprehension: bool = False,
        depth: int = 0,
    ) -> None:
        self.interpreter = interpreter
        self.fiber = fiber
        self.names = names
        self.function: types.FunctionType | None = function
        if function is None and outer is not None:
            self.function = outer.function
        self.node = node
        self.outer = outer
        self.origin = self
        """The frame that stands for this call or comprehension in the fiber that began it."""
        self.is_comprehension = is_comprehension
        self.depth = depth
        self.line = 0
        self.at_yield: Callable[[Any], None] | None = None
        """What a `with` does where its generator yields."""
        self.called_from: tuple[str, int] | None = None
        is_of_dspy = function is not None and str(function.__module__).startswith("dspy.")
        if is_of_dspy and caller is not None:
            self.called_from = caller.place

    def at(self, fiber: Fiber, memo: dict[int, Frame] | None = None) -> Frame:
        """The same for another fiber: what is assigned from here on is not seen there, nor the other way round."""
        memo = {} if memo is None else memo
        if id(self) not in memo:
            partner = memo[id(self)] = copy.copy(self)
            partner.fiber = fiber
            partner.names = dict(self.names)
            if self.outer is not None:
                partner.outer = self.outer.at(fiber, memo)
            for name, value in partner.names.items():
                if type(value) is LocalFunction:
                    partner.names[name] = value.at(fiber, memo)
        return memo[id(self)]

    def without_calls(self, reason: str) -> Frame:
        """The same where no call is made ahead of the program."""

        def refuse(*_: Any) -> Any:
            raise BailOut(reason)

        partner = self.at(self.fiber)
        partner.interpreter = copy.copy(self.interpreter)
        partner.interpreter.issue = refuse
        return partner

    # The interpreter, from here

    def evaluate(self, node: Any) -> Any:
        """The value of an expression, perhaps `Pending`."""
        return self.interpreter.evaluate(self, node)

    def execute(self, body: Sequence[Any]) -> Any:
        """Interpret statements; says how they were left."""
        return self.interpreter.execute(self, body)

    def call(self, node: Any, *, used_up: bool = False) -> Any:
        """The value of a call expression; `Iterating` if it is of that kind, and is going to be used up here."""
        return self.interpreter.handlers.call(self, node, used_up=used_up)

    def apply(self, callee: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The value of calling something."""
        return self.interpreter.handlers.apply(self, callee, args, kwargs)

    def enter(self, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Interpret a function's body."""
        return self.interpreter.handlers.enter(self, function, args, kwargs)

    def truth(self, value: Any) -> bool:
        """Whether a value counts as true; waits for it."""
        value = self.force(value)
        if not effect_free.is_plain(type(value)):
            raise BailOut(f"whether a {type(value).__qualname__} is true is said by code of your own")
        if type(value) in effect_free.BOXES:
            self.fiber.touch(value)
        return bool(value)

    def operate(
        self, what: str, op: Callable[..., Any], *operands: Any, as_text: bool = False, is_plain: bool = False
    ) -> Any:
        """Apply an operator, now or when its operands are there."""

        def checked(*values: Any) -> Any:
            check_plain(*values, as_text=as_text)
            return raising(op, *values)

        return self.lift(what, checked, *operands, is_plain=is_plain)

    # Names

    def load(self, name: str) -> Any:
        """The value of a name."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                value = frame.names[name]
                if value is UNBOUND:
                    raise BailOut(f"`{name}` may have no value")
                return value.seen_from(self) if type(value) is LocalFunction else value
            frame = frame.outer
        function = self.function
        assert function is not None
        if name in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index(name)]
            try:
                return self.interpreter.snapshot.adopt(cell.cell_contents)
            except ValueError:
                raise BailOut(f"`{name}` has no value yet") from None
        if name in function.__globals__:
            return self.interpreter.snapshot.variable(function.__globals__, name, function.__globals__[name])
        try:
            return getattr(builtins, name)
        except AttributeError:
            raise BailOut(f"`{name}` is not defined") from None

    def _holder_of(self, name: str) -> Frame:
        """Where a name is assigned: that of a `nonlocal`, in the function around."""
        home = self.home
        if home.node is None or name not in facts_of(home.node.body).declared:
            return home
        around = home.outer
        while around is not None and name not in around.names:
            around = around.outer
        if around is None:
            raise BailOut(f"the global `{name}` is set")
        return around

    def waits_for(self, barrier: str, values: Iterable[Any]) -> bool:
        """Whether something must have run before what comes after it, for this reason, which is noted if it waits."""
        if barrier and any(blockers(self.fiber, value) for value in values):
            self.interpreter.note(self.place, f"{barrier}, so what comes after it waits for what it needs")
        return bool(barrier)

    def store(self, name: str, value: Any) -> None:
        """Assign a name."""
        names = self._holder_of(name).names
        attempt = self.fiber.attempt
        if attempt is not None and attempt.owner is self.fiber:
            before = names.get(name, UNBOUND)
            attempt.log(self.fiber.here, lambda: operator.setitem(names, name, before))
        names[name] = value

    def is_settled(self, name: str) -> bool:
        """Whether a name stands from now on for what it stands for now."""
        frame: Frame | None = self
        while frame is not None:
            facts = None if frame.node is None else facts_of(frame.node.body)
            if name in frame.names:
                if facts is None or frame.node is None or frame.is_comprehension:
                    return False
                is_rebound = name in facts.stores and name in parameters_of(frame.node.args)
                return not is_rebound and name not in facts.rebound
            if facts is not None and name in facts.stores:
                return False
            frame = frame.outer
        return True

    @property
    def home(self) -> Frame:
        """Where names are assigned: in a comprehension, the function around it."""
        frame = self
        while frame.is_comprehension and frame.outer is not None:
            frame = frame.outer
        return frame

    def values_of(self, names: Iterable[str]) -> list[Any]:
        """The values of those of the names that are the program's own variables."""
        values: list[Any] = []
        for name in names:
            frame: Frame | None = self
            while frame is not None:
                if name in frame.names:
                    values.append(frame.names[name])
                    break
                frame = frame.outer
        return values

    def knows(self, name: str) -> bool:
        """Whether a name is a variable of the program's own, that has a value."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                return True
            frame = frame.outer
        return False

    @property
    def place(self) -> tuple[str, int]:
        """File and line; in code of DSPy's own, those of the call that led there."""
        if self.called_from is not None:
            return self.called_from
        assert self.function is not None
        return self.function.__code__.co_filename, self.line

    def unmangled(self, name: str) -> str:
        """A private name as the class knows it."""
        if name.startswith("__") and not name.endswith("__") and self.function is not None:
            mangling = source_of(self.function).mangling
            return f"_{mangling}{name}" if mangling else name
        return name

    # Values

    def ready(self, value: Any) -> Any:
        """The value with nothing pending in it, even if that has to be waited for."""
        return _ready(self.fiber, value, set())

    def force(self, value: Any) -> Any:
        """The value itself; what it contains may still be pending."""
        return self.fiber.force(value)

    def lift(self, what: str, op: Callable[..., Any], *operands: Any, is_plain: bool = False) -> Any:
        """Apply a function without effects to values that may be pending; the result is pending then, too."""
        if not any(blockers(self.fiber, operand) for operand in operands):
            return op(*map(self.force, operands))

        def compute(fiber: Fiber) -> Any:
            return op(*(_ready(fiber, operand, set()) for operand in operands))

        return self.fiber.fork(compute, what, reachable(operands), is_plain=is_plain)

    def touch(self, box: Any, change: Callable[[], Any], what: str, *, writing: bool) -> Any:
        """Do something to a container when it is its turn, without looking at what it contains."""
        if self.fiber.is_free(box, writing=writing):
            return change()

        def wait(fiber: Fiber) -> Any:
            fiber.touch(box, writing=writing)
            return change()

        return self.fiber.fork(wait, what, [box], [box] if writing else ())

    def put_into(self, owner: Any, *values: Any) -> None:
        """Note that values come to be in something, by way of which others may get at them."""
        if self.interpreter.snapshot.is_shared(owner):
            self.interpreter.snapshot.has_changed_boxes = True
            self.interpreter.snapshot.share(reachable(values))
            self.interpreter.verdicts.known.clear()


def children(value: Any) -> Iterable[Any]:
    """What a container or a record has in it."""
    cls = type(value)
    if cls in effect_free.RECORDS:
        return [value._store]
    if not effect_free.is_box(cls):
        return ()
    if cls not in effect_free.CONTAINERS:
        return list(vars(value).values())
    return [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)


def blockers(fiber: Fiber, value: Any) -> bool:
    """Whether anything in a value is pending, or not this fiber's turn."""
    todo, seen = [value], set[int]()
    while todo:
        value = todo.pop()
        cls = type(value)
        if cls is Pending:
            if not value.done:
                return True
            todo.append(value.value)
        elif effect_free.is_box(cls) and id(value) not in seen:
            seen.add(id(value))
            if not fiber.is_free(value):
                return True
            for child in children(value):
                if type(child) is Pending:
                    return True
                if type(child) not in SCALARS:
                    todo.append(child)
    return False


def reachable(values: Iterable[Any]) -> list[Any]:
    """All containers and records that can be got at from these values, and what is pending and may be one."""
    found: dict[int, Any] = {}
    frames: set[int] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if type(value) is Pending:
            if value.done:
                todo.append(value.value)
            elif id(value) not in found and not value.is_plain:
                found[id(value)] = value  # stands for what it will be
                todo += value.boxes
        elif type(value) is LocalFunction:
            frame: Frame | None = value.frame
            while frame is not None and id(frame) not in frames:
                frames.add(id(frame))
                todo += frame.names.values()
                frame = frame.outer
        elif type(value) is functools.partial:
            todo += [value.func, *value.args, *value.keywords.values()]
        elif type(value) is types.MethodType or is_builtin_method(value):
            todo.append(value.__self__)
        elif effect_free.is_box(type(value)) and id(value) not in found:
            found[id(value)] = value
            todo += children(value)
    return list(found.values())


def _ready(fiber: Fiber, value: Any, seen: set[int]) -> Any:
    value = fiber.force(value)
    cls = type(value)
    if cls is tuple:
        items = tuple(_ready(fiber, item, seen) for item in value)
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if cls in effect_free.RECORDS:
        fiber.touch(value)
        _ready(fiber, value._store, seen)
        return value
    if not effect_free.is_box(cls) or id(value) in seen:
        return value
    seen.add(id(value))
    fiber.touch(value)
    if isinstance(value, dict) or cls not in effect_free.CONTAINERS:
        table: dict[Any, Any] = value if isinstance(value, dict) else vars(value)
        for key in list(table):
            item = table[key]
            known = _ready(fiber, item, seen)
            if known is not item:
                table[key] = known
    elif cls is list or isinstance(value, deque):
        for index in range(len(value)):
            item = value[index]
            known = _ready(fiber, item, seen)
            if known is not item:
                value[index] = known
    return value
