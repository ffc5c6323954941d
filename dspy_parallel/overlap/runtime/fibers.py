"""Fibers: the scout's threads of thought, and their scheduler.

The scout interprets a program in one fiber. Where it would have to wait for an LM, it leaves the waiting part to a
fiber of its own and goes on with a `Pending` in place of its value. A fiber is a greenlet that begins to run at
once, inside its parent, and comes back when it is done or has to wait; so what needs no waiting costs a switch.

Every fiber has a *point*: its place in program order. A fiber that touches mutable objects (*boxes*) announces it, and
who comes after it in program order waits, see `dependences`.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from .attempts import Attempt, Failure, Raised, Unwound
from .dependences import Dependences
from .thunks import OUTSIDE, UNBOUND, BailOut, Location, Pending, ProgramPoint

__all__ = ["Fiber", "Scheduler"]

Place = tuple[str, int] | None


class Scheduler:
    """All fibers of one scout, and which of them can go on.

    Args:
        context: The program's.
        on_failure: Is told what the program raises and does not catch.
        on_bail_out: Is told why a fiber can't go on.
        on_wait: Is told where one waits that might not have to, and why.
        reachable: All boxes that can be got at from some values.
        is_outside: Whether a box can be got at in other ways than by the program's variables.
        restorer: Gives a box its present contents back.
    """

    def __init__(
        self,
        context: contextvars.Context,
        on_failure: Callable[[Failure], None],
        on_bail_out: Callable[[BaseException, Place], None],
        on_wait: Callable[[Place, str], None],
        reachable: Callable[[Iterable[Any]], list[Any]],
        is_outside: Callable[[Any], bool],
        restorer: Callable[[Any], Callable[[], None]],
    ) -> None:
        self._context = context
        self._on_failure = on_failure
        self._on_bail_out = on_bail_out
        self.on_wait = on_wait
        self._reachable = reachable
        self.is_outside = is_outside
        self.restorer = restorer
        self._origins: dict[int, tuple[Any, dict[int, Pending]]] = {}
        self._ready: deque[Fiber] = deque()
        self._suspended: set[Fiber] = set()
        self._is_running = False
        self.is_closed = False
        self.last: ProgramPoint | None = None
        """Nobody goes on behind this place in program order."""
        self._isolated: dict[ProgramPoint, tuple[Fiber, ProgramPoint | None]] = {}
        """The same for what begins in a fiber that others don't depend on, by its place."""
        self.current: Fiber | None = None
        """The fiber that runs."""

    @property
    def here(self) -> ProgramPoint:
        """The place in program order that the scout is at."""
        return () if self.current is None else self.current.here

    @property
    def is_over(self) -> bool:
        """Whether nobody can go on."""
        return self.is_closed or self.last == ()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody can't go on, and all who come before are done."""
        return self.last is not None and not self._suspended and not self._ready

    def start(self, fn: Callable[[Fiber], Any]) -> None:
        """Run the first fiber, and whatever it makes, as far as they come."""
        self._ready.append(Fiber(self, (), None, fn, Pending("the program")))
        self.run()

    def resolve(self, pending: Pending, value: Any) -> None:
        """Set a value and let those go on who waited for it."""
        self.note_origin(pending, value)
        pending.resolve(value)
        self.run()

    def run(self) -> None:
        """Run fibers until all are done or waiting."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._ready and not self.is_closed:
                self._ready.popleft().step()
        finally:
            self._is_running = False

    def close(self) -> None:
        """Unwind all fibers."""
        self.is_closed = True
        self._ready.clear()
        while self._suspended:
            self._suspended.pop().kill()

    # What ends fibers

    def is_past_end(self, point: ProgramPoint) -> bool:
        """Whether a place in program order is one that the scout does not go to."""
        is_past = self.is_closed or (self.last is not None and point > self.last)
        return is_past or any(end is not None and point > end for _, end in self._around(point))

    def isolate(self, fiber: Fiber) -> None:
        """What a fiber can't follow stops nobody outside of it: who needs its value is told that it is unknown."""
        self._isolated[fiber.point] = fiber, None

    def _around(self, point: ProgramPoint) -> Iterator[tuple[Fiber, ProgramPoint | None]]:
        """The isolated fibers around a place, the innermost first."""
        if self._isolated:
            for length in range(len(point), 0, -1):
                found = self._isolated.get(point[:length])
                if found is not None:
                    yield found

    def stop_after(self, point: ProgramPoint) -> None:
        """Let nobody go on behind this place in program order. Who comes before it is as certain as before."""
        if self.last is None or point < self.last:
            self.last = point
            for fiber in [fiber for fiber in self._suspended if fiber.here > point]:
                fiber.kill()

    def bail_out(self, point: ProgramPoint, exc: BaseException, place: Place) -> None:
        """A fiber can't go on: it has met what is not understood, or an exception of the scout's own."""
        if self.is_past_end(point):
            return
        self._on_bail_out(exc, place)
        isolated = next(self._around(point), None)
        if isolated is not None and not (isinstance(exc, BailOut) and exc.is_end):
            self._stop_inside(isolated[0], point)
            return
        # What it would have changed it has announced, or it is not a fiber of its own: whoever depends on it waits for
        # good. What it would have done that nobody foresaw (it turned out to be somebody's `__add__`, say) might
        # matter to all that comes after it.
        self.stop_after(point)

    def _stop_inside(self, isolated: Fiber, point: ProgramPoint) -> None:
        start = isolated.point
        self._isolated[start] = isolated, point
        isolated.result.is_unknown = True
        for fiber in [fiber for fiber in self._suspended if fiber.point[: len(start)] == start and fiber.here > point]:
            fiber.kill()

    def fail(self, failure: Failure, attempt: Attempt | None) -> None:
        """The program raises, in a fiber other than the one of the `try`, or after the scout has passed that."""
        while attempt is not None and attempt.end is not None:
            attempt = attempt.outer
        if self.is_past_end(failure.point):
            return
        if attempt is None:
            self._on_failure(failure)
            self.stop_after(failure.point)
            return
        attempt.fail(failure)
        inside = [each for each in self._suspended if each.attempt is not None and each.attempt.is_within(attempt)]
        for fiber in inside:
            if fiber is not attempt.owner and fiber.here > failure.point:
                fiber.kill()
        if attempt.owner in self._suspended:
            self._ready.append(attempt.owner)

    # For fibers

    def note_origin(self, pending: Pending, value: Any) -> None:
        """Remember by which pending value the boxes of its value were known before they were there.

        In `a = find(x); b = a.items; c = slow(b); a.items.append(1)`, `slow` has announced to read what `a` will be,
        not knowing that it is a list. Who appends to the list asks who has announced to touch `a`.
        """
        known = {id(pending), *map(id, pending.boxes)}
        for box in () if pending.is_plain else self._reachable([value]):
            if id(box) in known:
                continue
            if type(box) is Pending:
                box.known_as.update(pending.known_as)
            else:
                self._origins.setdefault(id(box), (box, {}))[1].update(pending.known_as)

    def names_of(self, box: Any) -> tuple[Any, ...]:
        """A box, the pending values that turned out to be or to have it, and `OUTSIDE` if others may know it."""
        _, known = self._origins.get(id(box), (box, {}))
        names = (box, *known.values())
        return (*names, OUTSIDE) if any(map(self.is_outside, names)) else names

    def suspend(self, fiber: Fiber) -> None:
        """Record that a fiber is blocked."""
        self._suspended.add(fiber)

    def resume(self, fiber: Fiber) -> None:
        """Record that it is not blocked any more."""
        self._suspended.discard(fiber)

    def suspended_before(self, point: ProgramPoint) -> Pending | None:
        """What some fiber computes that comes before a place in program order, and waits."""
        for fiber in self._suspended:
            if fiber.point < point and fiber.point != point[: len(fiber.point)]:
                return fiber.result
        return None

    def suspended_in(self, attempt: Attempt) -> Pending | None:
        """The same for what was begun in a `try`, up to where it failed."""
        before: ProgramPoint = attempt.owner.here if attempt.failure is None else attempt.failure.point
        for fiber in self._suspended:
            is_inside = fiber.attempt is not None and fiber.attempt.is_within(attempt)
            if is_inside and fiber is not attempt.owner and fiber.point < before:
                return fiber.result
        return next((result for point, result in attempt.results if point < before and not result.done), None)

    def never_known(self) -> Iterator[tuple[Any, str]]:
        """Where fibers wait for what only the program can know, and what that is."""
        made_by = {id(fiber.result): fiber for fiber in self._suspended}
        for fiber in sorted(self._suspended, key=lambda fiber: fiber.point):
            awaited = fiber.waits_for
            while awaited is not None and not awaited.is_unknown:
                maker = made_by.get(id(awaited))
                awaited = None if maker is None else maker.waits_for
            if awaited is not None:
                yield fiber.place, awaited.what

    def wake(self, fiber: Fiber) -> None:
        """It has what it has waited for."""
        self._ready.append(fiber)

    def copy_context(self) -> contextvars.Context:
        """A context like the program's."""
        return self._context.copy()


class Fiber:
    """One fiber.

    Attributes:
        point: Its place in program order.
        overrides: What `dspy.context(...)` has set around it.
        place: Where in the source it is.
        result: What it computes.
        attempt: The innermost `try` in whose body it is.
        waits_for: The value that it waits for, or did last.
        cause: The value that it waited for last, or whoever started it did.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        point: ProgramPoint,
        parent: Fiber | None,
        fn: Callable[[Fiber], Any],
        result: Pending,
    ) -> None:
        self.point = point
        self.overrides: dict[str, Any] = {} if parent is None else parent.overrides
        self.place: Place = None if parent is None else parent.place
        self.attempt: Attempt | None = None if parent is None else parent.attempt
        self.waits_for: Pending | None = None
        self.cause: Pending | None = None if parent is None else parent.cause
        self.result = result
        self._scheduler = scheduler
        self._dependences: Dependences = Dependences(None if parent is None else parent._dependences)
        self._fn = fn
        self._made = 0
        self._has_waited = False
        self._greenlet = greenlet(self._work)
        self._greenlet.gr_context = scheduler.copy_context()

    # From outside

    def step(self) -> None:
        """Run until it is done or waits."""
        self._scheduler.resume(self)
        if self._greenlet.dead:
            return
        self._greenlet.parent = getcurrent()
        outer, self._scheduler.current = self._scheduler.current, self
        try:
            self._greenlet.switch()
        finally:
            self._scheduler.current = outer

    def kill(self) -> None:
        """Unwind it."""
        self._scheduler.resume(self)
        self._greenlet.parent = getcurrent()
        self._greenlet.throw(GreenletExit)

    def _work(self) -> None:
        try:
            value = self._fn(self)
            if self._has_waited:
                # Whoever waits for the value knows of this fiber's announcements, and nothing of what it has left to
                # fibers of its own. In `for x in xs: (items.append(slow(x)))`, the turn has ended when the append has.
                for each in self._dependences.of_children():
                    self.wait(each)
                self._scheduler.note_origin(self.result, value)
        except (GreenletExit, Unwound):
            if self.attempt is not None:  # who would read this value was begun later, and has ended, too
                self.result.resolve(UNBOUND)
            return
        except Raised as raised:
            self._scheduler.fail(Failure(self.here, raised.exc, self.place), self.attempt)
            if self.attempt is not None:
                self.result.resolve(UNBOUND)
            return
        except BaseException as exc:
            self._scheduler.bail_out(self.here, exc, self.place)
            return
        self.result.cause = self.cause
        self.result.resolve(value)

    # From inside

    @property
    def waited_for(self) -> Any:
        """The call that had to be done before it could come here; of several, the one that was done last."""
        cause = self.cause
        while cause is not None and cause.call is None:
            cause = cause.cause
        return None if cause is None else cause.call

    @property
    def here(self) -> ProgramPoint:
        """Its place in program order, after what it has started so far."""
        return (*self.point, self._made + 1)

    def next_point(self) -> ProgramPoint:
        """The place of the next thing that this fiber starts."""
        self._made += 1
        return (*self.point, self._made)

    def fork(
        self,
        fn: Callable[[Fiber], Any],
        what: str,
        reads: Iterable[Any] = (),
        writes: Iterable[Any] = (),
        *,
        isolated: bool = False,
        is_plain: bool = False,
        is_new: bool = False,
    ) -> Any:
        """Run `fn` in a fiber of its own; return its value, or a `Pending` if it has to wait.

        Args:
            fn: Is called with its fiber.
            what: What it computes, in words.
            reads: The boxes that it may look into.
            writes: The boxes that it may change.
            isolated: Whether nobody depends on what it does, but for its value: see `Scheduler.isolate()`.
            is_plain: Whether the value is a number, a text or the like.
            is_new: Whether nothing is in the value that was in a box before.
        """
        reads, writes = list(reads), list(writes)
        # Nobody gets at a container by way of a location: what a value may be is told by the boxes alone.
        boxes = [] if is_plain or is_new else [box for box in (*reads, *writes) if type(box) is not Location]
        result = Pending(what, boxes, is_plain=is_plain)
        child = Fiber(self._scheduler, self.next_point(), self, fn, result)
        if isolated:
            self._scheduler.isolate(child)
        child.step()
        self._check()
        if result.done and not child._has_waited:
            self._dependences.take(child._dependences)
            return result.value
        self._dependences.announce(result, reads, writes)
        return result

    def _check(self) -> None:
        if self._scheduler.is_past_end(self.here):
            raise GreenletExit
        attempt = self.attempt
        while attempt is not None:
            if attempt.owner is self:
                if attempt.failure is not None and not attempt.is_unwound:
                    raise Unwound(attempt)
            elif attempt.failure is not None and attempt.failure.point < self.here:
                raise GreenletExit
            attempt = attempt.outer

    def keep(self) -> Callable[[], None]:
        """What lets it know again who is to be waited for, as now: what it learned since then has not happened."""
        before = Dependences(self._dependences)
        return lambda: self._dependences.take(before)

    def wait_for_all_in(self, attempt: Attempt) -> None:
        """Wait until everything is done that was begun in a `try`, up to where it failed."""
        while (earlier := self._scheduler.suspended_in(attempt)) is not None:
            self.wait(earlier)

    def touch(self, box: Any, *, writing: bool = False) -> None:
        """Wait until it is this fiber's turn with a box."""
        if not writing and self._dependences.are_none:
            return
        names = self._scheduler.names_of(box)
        if writing and names[-1] is OUTSIDE:
            while (earlier := self._scheduler.suspended_before(self.here)) is not None:
                self._scheduler.on_wait(self.place, "it changes what others may have, after all that comes before")
                self.force(earlier)
        for key in map(id, names):
            for each in self._dependences.before(key, writing=writing):
                self.wait(each)
            self._dependences.forget(key)
        if writing and self.attempt is not None and type(box) is not Location:
            self.attempt.log(self.here, self._scheduler.restorer(box))

    def is_free(self, box: Any, *, writing: bool = False) -> bool:
        """Whether it is this fiber's turn already."""
        if not writing and self._dependences.are_none:
            return True
        names = self._scheduler.names_of(box)
        if writing and names[-1] is OUTSIDE and self._scheduler.suspended_before(self.here) is not None:
            return False
        return not any(self._dependences.before(key, writing=writing) for key in map(id, names))

    def wait(self, pending: Pending) -> Any:
        """Suspend until a value is there; return it."""
        while not pending.done:
            self._has_waited = True
            self.waits_for = pending
            pending.on_value(lambda: self._scheduler.wake(self))
            self._scheduler.suspend(self)
            getcurrent().parent.switch()  # type: ignore[union-attr]
            self._check()
            self.cause = pending
        return pending.value

    def force(self, value: Any) -> Any:
        """The value, even if it has to be waited for."""
        while type(value) is Pending:
            value = self.wait(value)
        if value is UNBOUND:
            raise BailOut("a name may have no value")
        return value
