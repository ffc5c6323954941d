"""Strands: the scout's threads of thought, and the values that they do not have yet.

The scout interprets a program in one strand. Where it would have to wait for an LM, it leaves the waiting part to a
strand of its own and goes on with a `Pending` in place of its value. A strand is a greenlet that begins to run at
once, inside its parent, and comes back when it is done or has to wait; so what needs no waiting costs a switch.

Every strand has a *path*. Paths in lexicographic order are the order in which the sequential program does the same
work. A strand that touches containers (*boxes*) gates them: what comes after it in program order waits at the gate,
a reader for the writers before it, a writer for everybody before it.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from .guesses import Guess
    from .session import Call

__all__ = ["OUTSIDE", "UNBOUND", "Halted", "Pending", "Strand", "Strands"]

Path = tuple[int, ...]

UNBOUND: Any = object()
"""Stands for the value of a name that has none."""

OUTSIDE: Any = object()
"""Stands for all boxes that can be got at from outside of the program: by way of attributes, globals and closures."""


class Halted(BaseException):
    """The scout does not go on from here. Not an `Exception`: nothing that it runs may take it for its own."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class Pending:
    """A value that is not there yet.

    Attributes:
        what: What is being waited for, in words.
        boxes: The containers that the value may turn out to be, or to contain.
        guess: The side of an undecided branch that it belongs to.
        is_unknown: Whether only the program can know it: the time, or chance.
        is_data: Whether it is known to be a number, a text or the like.
        call: The call that it is the result of.
        cause: The value that had to be there first; of several, the one that came last.
    """

    __slots__ = ("_value", "_waiting", "boxes", "call", "cause", "done", "guess", "is_data", "is_unknown", "what")

    def __init__(self, what: str, boxes: Iterable[Any] = (), guess: Guess | None = None) -> None:
        self.what = what
        self.guess = guess
        self.boxes = tuple(boxes)
        self.is_unknown = self.is_data = False
        self.call: Call | None = None
        self.cause: Pending | None = None
        self.done = False
        self._value: Any = None
        self._waiting: list[Strand] = []

    def resolve(self, value: Any) -> list[Strand]:
        """Set the value; return who was waiting for it."""
        self.done, self._value = True, value
        waiting, self._waiting = self._waiting, []
        return waiting

    @property
    def value(self) -> Any:
        """The value; itself never pending."""
        assert self.done
        value = self._value
        while type(value) is Pending and value.done:
            value = value._value
        return value

    def wait_with(self, strand: Strand) -> None:
        """Resume this strand when the value is there."""
        self._waiting.append(strand)

    def __bool__(self) -> bool:
        raise Halted("a value was asked for before it was there")


class Gate:
    """What has yet to happen to a box before somebody later may touch it."""

    __slots__ = ("readers", "writer")

    def __init__(self, writer: Pending | None, readers: tuple[Pending, ...] = ()) -> None:
        self.writer = writer
        self.readers = readers

    def before(self, *, writing: bool) -> list[Pending]:
        """Whom to wait for."""
        waits = [] if self.writer is None or self.writer.done else [self.writer]
        if writing:
            waits += [reader for reader in self.readers if not reader.done]
        return waits

    def __bool__(self) -> bool:
        return bool(self.before(writing=True))


class Strands:
    """All strands of one scout, and which of them can go on."""

    def __init__(
        self,
        context: contextvars.Context,
        failed: Callable[[Path, BaseException, Any], None],
        reachable: Callable[[Iterable[Any]], list[Any]],
        is_outside: Callable[[Any], bool],
    ) -> None:
        self._context = context
        self._failed = failed
        self._reachable = reachable
        self.is_outside = is_outside
        self._late: dict[int, Any] = {}
        self._ready: deque[Strand] = deque()
        self._suspended: set[Strand] = set()
        self._is_running = False
        self.is_halted = False
        self.current: Strand | None = None
        """The strand that runs."""

    @property
    def here(self) -> Path:
        """The place in program order that the scout is at."""
        return () if self.current is None else self.current.here

    def start(self, fn: Callable[[Strand], Any]) -> None:
        """Run the first strand, and whatever it makes, as far as they come."""
        self._ready.append(Strand(self, (), None, fn, Pending("the program")))
        self.run()

    def resolve(self, pending: Pending, value: Any) -> None:
        """Set a value and let those go on who waited for it."""
        self.came_late(value, ())
        self._ready.extend(pending.resolve(value))
        self.run()

    def run(self) -> None:
        """Run strands until all are done or waiting."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._ready and not self.is_halted:
                self._ready.popleft().step()
        finally:
            self._is_running = False

    def halt(self) -> None:
        """Let nothing go on."""
        self.is_halted = True

    def close(self) -> None:
        """Unwind all strands."""
        self.is_halted = True
        self._ready.clear()
        while self._suspended:
            self._suspended.pop().kill()

    # For strands

    def came_late(self, value: Any, known: Iterable[Any]) -> None:
        """Note the containers of a value that others may have waited for before they could say what they look into."""
        before = {id(box) for box in known}
        self._late.update((id(box), box) for box in self._reachable([value]) if id(box) not in before)

    def is_late(self, box: Any) -> bool:
        """Whether somebody who comes before may look into it without having said so."""
        return id(box) in self._late or self.is_outside(box)

    def suspended(self, strand: Strand) -> None:
        """It waits."""
        self._suspended.add(strand)

    def resumed(self, strand: Strand) -> None:
        """It goes on."""
        self._suspended.discard(strand)

    def suspended_before(self, path: Path) -> Pending | None:
        """What some strand computes that comes before a place in program order, and waits."""
        for strand in self._suspended:
            if strand.guess is None and strand.path < path and strand.path != path[: len(strand.path)]:
                return strand.result
        return None

    def never_known(self) -> Iterator[tuple[Any, str]]:
        """Where strands wait for what only the program can know, and what that is."""
        made_by = {id(strand.result): strand for strand in self._suspended}
        for strand in sorted(self._suspended, key=lambda strand: strand.path):
            awaited = None if strand.guess is not None else strand.waits_for
            while awaited is not None and not awaited.is_unknown:
                maker = made_by.get(id(awaited))
                awaited = None if maker is None else maker.waits_for
            if awaited is not None:
                yield strand.place, awaited.what

    def wake(self, strands: list[Strand]) -> None:
        """They have what they have waited for."""
        self._ready.extend(strands)

    def failed(self, path: Path, exc: BaseException, place: Any = None) -> None:
        """Somebody cannot go on; so nobody does."""
        if not self.is_halted:
            self.is_halted = True
            self._failed(path, exc, place)

    def copy_context(self) -> contextvars.Context:
        """A context like the program's."""
        return self._context.copy()


class Strand:
    """One strand.

    Attributes:
        path: Its place in program order.
        overrides: What `dspy.context(...)` has set around it.
        place: Where in the source it is.
        result: What it computes.
        guess: The side of an undecided branch that it follows; None if what it does is certain.
        waits_for: The value that it waits for, or did last.
        cause: The value that it waited for last, or whoever started it did.
    """

    __slots__ = (
        "_finds",
        "_fn",
        "_gates",
        "_greenlet",
        "_has_waited",
        "_inherited",
        "_made",
        "_strands",
        "cause",
        "guess",
        "overrides",
        "path",
        "place",
        "result",
        "waits_for",
    )

    def __init__(
        self,
        strands: Strands,
        path: Path,
        parent: Strand | None,
        fn: Callable[[Strand], Any],
        result: Pending,
        guess: Guess | None = None,
    ) -> None:
        self.path = path
        self.guess: Guess | None = guess
        self.overrides: dict[str, Any] = {} if parent is None else parent.overrides
        self.place: tuple[str, int] | None = None if parent is None else parent.place
        self._strands = strands
        self._gates: dict[int, tuple[Any, Gate]] = {} if parent is None else parent._gates.copy()
        self._inherited = {id(gate) for _, gate in self._gates.values()}
        self._fn = fn
        self._finds = False
        self._made = 0
        self._has_waited = False
        self.waits_for: Pending | None = None
        self.cause: Pending | None = None if parent is None else parent.cause
        self.result = result
        self._greenlet = greenlet(self._work)
        self._greenlet.gr_context = strands.copy_context()

    # From outside

    def step(self) -> None:
        """Run until it is done or waits."""
        self._strands.resumed(self)
        self._greenlet.parent = getcurrent()
        outer, self._strands.current = self._strands.current, self
        try:
            self._greenlet.switch()
        finally:
            self._strands.current = outer

    def kill(self) -> None:
        """Unwind it."""
        self._greenlet.parent = getcurrent()
        self._greenlet.throw(GreenletExit)

    def _work(self) -> None:
        try:
            value = self._fn(self)
            if self._has_waited:
                # Whoever waits for the value knows nothing of what this strand has left to strands of its own.
                for _, gate in self._gates.values():
                    if id(gate) not in self._inherited:
                        self._wait_all(gate.before(writing=True))
                if not self._finds:
                    self._strands.came_late(value, self.result.boxes)
        except GreenletExit:
            return
        except BaseException as exc:
            if self.guess is not None:
                self.guess.end()
            else:
                self._strands.failed(self.here, exc, self.place)
            return
        self.result.cause = self.cause
        self._strands.wake(self.result.resolve(value))

    # From inside

    @property
    def waited_for(self) -> Call | None:
        """The call that had to be done before it could come here; of several, the one that was done last."""
        cause = self.cause
        while cause is not None and cause.call is None:
            cause = cause.cause
        return None if cause is None else cause.call

    def next_path(self) -> Path:
        """The place of the next thing that this strand starts."""
        self._made += 1
        return (*self.path, self._made)

    def fork(
        self,
        fn: Callable[[Strand], Any],
        what: str,
        reads: Iterable[Any] = (),
        writes: Iterable[Any] = (),
        *,
        finds: bool = False,
    ) -> Any:
        """Run `fn` in a strand of its own; return its value, or a `Pending` if it has to wait.

        Args:
            fn: Is called with its strand.
            what: What it computes, in words.
            reads: The containers that it may look into.
            writes: The containers that it may change.
            finds: Whether its value is one that was in a container before, and not a new one.
        """
        writes = list(writes)
        result = Pending(what, [*reads, *writes], self.guess)
        child = Strand(self._strands, self.next_path(), self, fn, result, self.guess)
        child._finds = finds
        child.step()
        self._check()
        if result.done and not child._has_waited:
            self._gates = child._gates
            return result.value
        for box in result.boxes:
            _, gate = self._gates.get(id(box), (box, _OPEN))
            self._gates[id(box)] = box, Gate(gate.writer, (*gate.readers, result))
        for box in writes:
            self._gates[id(box)] = box, Gate(result)
        return result

    def suppose(self, guess: Guess, fn: Callable[[Strand], Any]) -> None:
        """Follow one side of an undecided branch in a strand of its own, for which nobody waits."""
        Strand(self._strands, self.next_path(), self, fn, Pending("a guess"), guess).step()
        self._check()

    def _check(self) -> None:
        if self._strands.is_halted or (self.guess is not None and self.guess.is_over):
            raise Halted

    def wait_for_all_before(self) -> None:
        """Wait until everything is done that comes before in program order."""
        while (earlier := self._strands.suspended_before(self.here)) is not None:
            self.force(earlier)

    @property
    def here(self) -> Path:
        """Its place in program order, after what it has started so far."""
        return (*self.path, self._made + 1)

    def touch(self, box: Any, *, writing: bool = False) -> None:
        """Wait until it is this strand's turn with a container."""
        if writing and self._strands.is_late(box):
            if self.guess is not None and self._strands.is_outside(box):
                raise Halted("what others have is changed on one side of an undecided branch")
            self.wait_for_all_before()
        for key in self._keys(box):
            known = self._gates.get(key)
            if known is not None:
                waits = known[1].before(writing=writing)
                if waits:
                    self._wait_all(waits)
                if not known[1].before(writing=True):
                    self._gates.pop(key, None)

    def is_free(self, box: Any, *, writing: bool = False) -> bool:
        """Whether it is this strand's turn already."""
        if writing and self._strands.is_late(box) and self._strands.suspended_before(self.here) is not None:
            return False
        gates = (self._gates.get(key) for key in self._keys(box))
        return not any(known is not None and known[1].before(writing=writing) for known in gates)

    def _keys(self, box: Any) -> tuple[int, ...]:
        return (id(box), id(OUTSIDE)) if self._strands.is_outside(box) else (id(box),)

    def wait(self, pending: Pending) -> Any:
        """Suspend until a value is there; return it."""
        while not pending.done:
            self._has_waited = True
            self.waits_for = pending
            pending.wait_with(self)
            self._strands.suspended(self)
            getcurrent().parent.switch()  # type: ignore[union-attr]
            self._check()
            self.cause = pending
        if self.guess is not pending.guess and self.guess is not None:
            return self.guess.own_copy(pending.value)
        return pending.value

    def force(self, value: Any) -> Any:
        """The value, even if it has to be waited for."""
        while type(value) is Pending:
            value = self.wait(value)
        if value is UNBOUND:
            raise Halted("a name may have no value")
        return value

    def _wait_all(self, pendings: list[Pending]) -> None:
        for pending in pendings:
            self.force(pending)


_OPEN = Gate(None)
