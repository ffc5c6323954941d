"""Where a piece of the program is interpreted: its names, its strand, its place in the source."""

from __future__ import annotations

import builtins
import copy
import functools
import types
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from . import purity
from .facts import facts_of, parameters_of
from .sources import source_of
from .strands import UNBOUND, Halted, Pending, Strand

if TYPE_CHECKING:
    from .scout import Scout

__all__ = ["Frame", "LocalFunction", "Returned", "blockers", "children", "reachable"]


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

    def at(self, strand: Strand, memo: dict[int, Frame] | None = None) -> LocalFunction:
        """The same for another strand: it sees the names around it as they are now."""
        return self._around(self.frame.at(strand, memo))

    def seen_from(self, frame: Frame) -> LocalFunction:
        """The same where it is used: the names around it are read when it is called, not when it was made."""
        around: Frame | None = frame
        while around is not None:
            if around.origin is self.frame.origin:
                return self if around is self.frame else self._around(around)
            around = around.outer
        if not self.is_settled and self.frame.strand is not frame.strand:
            raise Halted("the names around a function may have changed since it was made")
        return self

    def _around(self, frame: Frame) -> LocalFunction:
        twin = copy.copy(self)
        twin.frame = frame
        return twin

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Nobody but the scout can call it."""
        raise Halted("a function of the program's own was about to be called by somebody else")


class Returned:
    """How a body was left: with this value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Frame:
    """One call of a function, or a comprehension in it, as far as one strand works on it."""

    def __init__(
        self,
        scout: Scout,
        strand: Strand,
        names: dict[str, Any],
        *,
        function: types.FunctionType | None = None,
        node: Any = None,
        outer: Frame | None = None,
        caller: Frame | None = None,
        is_comprehension: bool = False,
        depth: int = 0,
    ) -> None:
        self.scout = scout
        self.strand = strand
        self.names = names
        self.function: types.FunctionType | None = function
        if function is None and outer is not None:
            self.function = outer.function
        self.node = node
        self.outer = outer
        self.origin = self
        """The frame that stands for this call or comprehension in the strand that began it."""
        self.is_comprehension = is_comprehension
        self.depth = depth
        self.line = 0
        self.after: Sequence[Any] = ()
        """Blocks that follow the one that is interpreted, as far as that is certain."""
        self.called_from: tuple[str, int] | None = None
        is_of_dspy = function is not None and str(function.__module__).startswith("dspy.")
        if is_of_dspy and caller is not None:
            self.called_from = caller.place

    def at(self, strand: Strand, memo: dict[int, Frame] | None = None) -> Frame:
        """The same for another strand: what is assigned from here on is not seen there, nor the other way round."""
        memo = {} if memo is None else memo
        if id(self) not in memo:
            twin = memo[id(self)] = copy.copy(self)
            twin.strand = strand
            twin.names = dict(self.names)
            if self.outer is not None:
                twin.outer = self.outer.at(strand, memo)
            for name, value in twin.names.items():
                if type(value) is LocalFunction:
                    twin.names[name] = value.at(strand, memo)
        return memo[id(self)]

    # Names

    def load(self, name: str) -> Any:
        """The value of a name."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                value = frame.names[name]
                if value is UNBOUND:
                    raise Halted(f"`{name}` may have no value")
                return value.seen_from(self) if type(value) is LocalFunction else value
            frame = frame.outer
        function = self.function
        assert function is not None
        if name in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index(name)]
            try:
                return self.scout.outside.adopt(cell.cell_contents)
            except ValueError:
                raise Halted(f"`{name}` has no value yet") from None
        if name in function.__globals__:
            return self.scout.outside.variable(function.__globals__, name, function.__globals__[name])
        try:
            return getattr(builtins, name)
        except AttributeError:
            raise Halted(f"`{name}` is not defined") from None

    def store(self, name: str, value: Any) -> None:
        """Assign a name."""
        self.home.names[name] = value

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
        return _ready(self.strand, value, set())

    def force(self, value: Any) -> Any:
        """The value itself; what it contains may still be pending."""
        return self.strand.force(value)

    def force_result(self, value: Any) -> Any:
        """The value, if it is what a call returns: of other pending values it is known where they come from."""
        return self.force(value) if type(value) is Pending and not value.boxes else value

    def lift(self, what: str, op: Callable[..., Any], *operands: Any) -> Any:
        """Apply a function without effects to values that may be pending; the result is pending then, too."""
        if not any(blockers(self.strand, operand) for operand in operands):
            return op(*map(self.force, operands))

        def compute(strand: Strand) -> Any:
            return op(*(_ready(strand, operand, set()) for operand in operands))

        return self.strand.fork(compute, what, reachable(operands))

    def touch(self, box: Any, change: Callable[[], Any], what: str, *, writing: bool) -> Any:
        """Do something to a container when it is its turn, without looking at what it contains."""
        if self.strand.is_free(box, writing=writing):
            return change()

        def wait(strand: Strand) -> Any:
            strand.touch(box, writing=writing)
            return change()

        return self.strand.fork(wait, what, [box], [box] if writing else ())

    def put_into(self, owner: Any, *values: Any) -> None:
        """Note that values come to be in something, by way of which others may get at them."""
        if self.scout.outside.is_shared(owner):
            self.scout.outside.share(reachable(values))
            self.scout.verdicts.known.clear()


def children(value: Any) -> Iterable[Any]:
    """What a container or a record has in it."""
    cls = type(value)
    if cls in purity.RECORDS:
        return [value._store]
    if not purity.is_box(cls):
        return ()
    if cls not in purity.CONTAINERS:
        return list(vars(value).values())
    return [*value.keys(), *value.values()] if isinstance(value, dict) else list(value)


def blockers(strand: Strand, value: Any, seen: set[int] | None = None) -> bool:
    """Whether anything in a value is pending, or not this strand's turn."""
    cls = type(value)
    if cls is Pending:
        return not value.done or blockers(strand, value.value, seen)
    if not purity.is_box(cls):
        return False
    seen = set() if seen is None else seen
    if id(value) in seen:
        return False
    seen.add(id(value))
    if not strand.is_free(value):
        return True
    return any(type(child) is Pending or blockers(strand, child, seen) for child in children(value))


def reachable(values: Iterable[Any]) -> list[Any]:
    """All containers and records that can be got at from these values."""
    found: dict[int, Any] = {}
    frames: set[int] = set()
    todo = list(values)
    while todo:
        value = todo.pop()
        if type(value) is Pending:
            todo += [value.value] if value.done else value.boxes
        elif type(value) is LocalFunction:
            frame: Frame | None = value.frame
            while frame is not None and id(frame) not in frames:
                frames.add(id(frame))
                todo += frame.names.values()
                frame = frame.outer
        elif type(value) is functools.partial:
            todo += [value.func, *value.args, *value.keywords.values()]
        elif type(value) in (types.MethodType, types.BuiltinMethodType):
            todo.append(value.__self__)
        elif purity.is_box(type(value)) and id(value) not in found:
            found[id(value)] = value
            todo += children(value)
    return list(found.values())


def _ready(strand: Strand, value: Any, seen: set[int]) -> Any:
    value = strand.force(value)
    cls = type(value)
    if cls is tuple:
        items = tuple(_ready(strand, item, seen) for item in value)
        return value if all(a is b for a, b in zip(items, value, strict=True)) else items
    if cls in purity.RECORDS:
        strand.touch(value)
        _ready(strand, value._store, seen)
        return value
    if not purity.is_box(cls) or id(value) in seen:
        return value
    seen.add(id(value))
    strand.touch(value)
    if isinstance(value, dict) or cls not in purity.CONTAINERS:
        table: dict[Any, Any] = value if isinstance(value, dict) else vars(value)
        for key in list(table):
            item = table[key]
            known = _ready(strand, item, seen)
            if known is not item:
                table[key] = known
    elif cls is list or isinstance(value, deque):
        for index in range(len(value)):
            item = value[index]
            known = _ready(strand, item, seen)
            if known is not item:
                value[index] = known
    return value
