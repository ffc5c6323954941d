"""The scout: run-ahead prefetching by a helper, which makes the LM calls that a program is certain to make."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import dspy
from dspy.dsp.utils.settings import settings, thread_local_overrides
from dspy.utils.usage_tracker import UsageTracker

from ..analysis import effect_free
from ..bridge import run_in_thread, start
from .interpreter import calls, context_managers, expressions, statements
from .interpreter.frame import Frame, check_plain, reachable
from .interpreter.interpreter import Handlers, Interpreter
from .interpreter.intrinsics import Intrinsic
from .muting import foreign_wrapper, unheard
from .predictors import call_config, state_of, uses_cache, why_not, why_not_reply
from .runtime.attempts import Failure
from .runtime.fibers import Fiber, Scheduler
from .runtime.snapshot import Snapshot, private_copy, restorer
from .runtime.thunks import BailOut, Pending, ProgramPoint
from .session import Call, Current, Session, current, is_same

__all__ = ["Reason", "Scout"]

_ISOLATED: dict[str, Any] = {
    "callbacks": [],
    "disable_history": True,
    "send_stream": None,
    "stream_listeners": [],
    "caller_modules": [],
}
"""What the scout's calls leave no marks in. Its trace and usage are lists of its own."""

HANDLERS = Handlers(
    {**expressions.HANDLERS, **context_managers.HANDLERS}, statements.HANDLERS, calls.call, calls.apply, calls.enter
)


class Reason(NamedTuple):
    """Why something was not done ahead of its turn, and where."""

    place: tuple[str, int] | None
    text: str


class Scout:
    """Runs ahead of one run of one program.

    Args:
        session: What it shares with the main line.
        function: The program.
        args: Its arguments.
        kwargs: Its keyword arguments.
        context: Its context; without one, the present one.
    """

    def __init__(
        self,
        session: Session,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
    ) -> None:
        self.session = session
        self.reasons: list[Reason] = []
        self.waits: list[Reason] = []
        self.after: Call | None = None
        """The program's call that was over before it began."""
        self.snapshot = Snapshot(self._is_behind)
        self._interpreter = Interpreter(HANDLERS, self.snapshot, self._issue, self._note, self._construct)
        self._made: dict[int, Any] = {}
        """Predictors that the scout has made, as the program does: each side has its own."""
        self.has_begun = False
        self._context = contextvars.copy_context() if context is None else context
        self._scheduler = Scheduler(
            self._context, self._failed, self._bailed_out, self._waits, reachable, self.snapshot.is_shared, restorer
        )
        self._function, self._args, self._kwargs = function, args, kwargs
        if isinstance(function, functools.partial):  # `forward` of a module
            self._function = function.func
            self._args, self._kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        try:
            roots = self._function.roots if isinstance(self._function, Intrinsic) else (self._function,)
            self.snapshot.freeze(*roots, self._args, self._kwargs)
        except Exception as exc:  # an object that cannot be looked at: its program runs without a scout
            self._scheduler.bail_out((), exc, None)

    def followed_by(self, rest: Any, overrides: Any) -> Scout:
        """Another one, for the rest of the program, with these settings of DSPy; it goes on with the reasons."""
        context = self._context.copy()
        context.run(thread_local_overrides.set, overrides)
        after = context.copy().run(Scout, self.session, rest, (), {}, context)
        after.reasons, after.waits = self.reasons, self.waits
        return after

    def go(self) -> None:
        """Run ahead, as far as that goes for now."""
        if self.session.is_closed or self._scheduler.is_over:
            return
        self.session.on_result, self.session.on_failure = self._resolve, self._main_failed

        def program(fiber: Fiber) -> Any:
            args = [self.snapshot.adopt(arg) for arg in self._args]
            kwargs = {name: self.snapshot.adopt(value) for name, value in self._kwargs.items()}
            return Frame(self._interpreter, fiber, {}, function=_NO_FUNCTION).apply(self._function, args, kwargs)

        self.has_begun = True
        self._scheduler.start(program)

    def _note(self, place: tuple[str, int] | None, text: str) -> None:
        self.reasons.append(Reason(place, text))

    def _waits(self, place: tuple[str, int] | None, text: str) -> None:
        self.waits.append(Reason(place, text))

    @property
    def is_over(self) -> bool:
        """Whether it will make no more calls."""
        return self._scheduler.is_over

    @property
    def is_stopped(self) -> bool:
        """Whether it has come to something that it does not go past, and is done with all that comes before."""
        return self.has_begun and self._scheduler.is_stopped

    def _is_behind(self) -> bool:
        """Whether the program may be past the place that the scout is at."""
        return self.has_begun and not self.session.is_held_before(self._scheduler.here)

    def stop_after(self, point: ProgramPoint) -> None:
        """Go no further than to a place in program order."""
        self._scheduler.stop_after(point)

    def close(self) -> None:
        """The program has ended."""
        if not self._scheduler.is_over:
            for place, what in self._scheduler.never_known():
                self.reasons.append(Reason(place, f"{what} is known only when the program comes to it"))
        self._scheduler.close()

    def _construct(self, cls: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """A module of DSPy's, made as the program makes it."""

        def make() -> Any:
            current.set(Current(self.session, "scout", None))
            with unheard():
                return cls(*args, **kwargs)

        made = self._context.copy().run(make)
        for module in (each for _, each in made.named_sub_modules()) if isinstance(made, dspy.Module) else (made,):
            self._made[id(module)] = self.snapshot.own_object(module)
        return made

    # Calls

    def _issue(self, frame: Frame, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The result of calling a predictor or a pure function, made as soon as its inputs are there."""
        place = frame.place
        is_predictor = type(target) is dspy.Predict
        signature = target.signature if is_predictor else None
        owner: list[Any] = []
        if not isinstance(target, (types.FunctionType, types.MethodType, dspy.Module)):
            target = types.MethodType(type(target).__call__, target)
        if isinstance(target, types.MethodType):  # the same for each call
            owner, target = [target.__self__], target.__func__
        # What the program changes that is also a demo, say, the request must show.
        state = [(each, self.snapshot.copy_of(each)) for each in (state_of(target) if is_predictor else ())]
        copies = [copy for _, copy in state]

        def work(fiber: Fiber) -> Any:
            inner = frame.at(fiber)
            for value in copies:
                inner.ready(value)
            named = {name: inner.ready(value) for name, value in kwargs.items()}
            positional = [inner.ready(value) for value in args]
            check_plain(named, positional, as_text=True)
            known, positional = private_copy(named), [*owner, *private_copy(positional)]
            reason = why_not_reply(inner, signature) if is_predictor else None
            if not all(is_same(*each) for each in state):
                reason = "the program changes its demos or options"
            return self._make(fiber, target, positional, known, place, reason)

        reads = reachable([*args, *kwargs.values(), *copies])
        return frame.fiber.fork(work, f"the call on line {place[1]}", reads, is_new=True)

    def _make(
        self,
        fiber: Fiber,
        target: Any,
        args: list[Any],
        inputs: dict[str, Any],
        place: tuple[str, int],
        reason: str | None,
    ) -> Pending:
        self._interpreter.steps = 0
        point = fiber.next_point()
        is_predictor = type(target) is dspy.Predict
        outcome = Pending(f"the call on line {place[1]}")
        wanted: Any = inputs if is_predictor else (tuple(args), inputs)
        context = self._context.copy()
        config = context.run(self._in_context, fiber, call_config, target, inputs) if is_predictor else ()
        call = Call("scout", target, private_copy(wanted), config, point, place, outcome=outcome)
        outcome.call, call.cause, call.attempt = call, fiber.waited_for or self.after, fiber.attempt
        if fiber.attempt is not None:
            fiber.attempt.results.append((point, outcome))
        call.is_made = id(target) in self._made
        call.is_whole = isinstance(target, dspy.Module) and not is_predictor
        if not self.session.is_joined(call):
            self._scheduler.stop_after(())
            raise BailOut
        if is_predictor and reason is None:
            reason = context.run(self._in_context, fiber, why_not, target, inputs)
            if (
                reason is None
                and self.session.would_overtake(call)
                and context.run(self._in_context, fiber, uses_cache, target, inputs)
            ):
                reason = "an equal call comes before it, whose answer the cache will have"
        if call.is_whole and effect_free.declared(target) != "pure":
            reasons = (context.run(self._in_context, fiber, why_not, each, {}) for each in target.predictors())
            reason = next((each for each in reasons if each), None)
            owners = [type(each) for _, each in target.named_sub_modules()]
            reason = reason or foreign_wrapper(dspy.Tool, *owners) or None
            reason = reason or ("an earlier scout may run it" if self.session.was_abandoned else None)
        call.is_issued = reason is None
        if reason is not None:
            self.reasons.append(Reason(place, reason))
        elif self.session.take_over(call):
            return outcome
        self.session.begin(call)
        if call.came_second or reason is not None:
            call.is_issued = False
        else:
            self._start(call, args, inputs, fiber.overrides, context)
        return outcome

    def _start(
        self, call: Call, args: list[Any], inputs: dict[str, Any], overrides: dict[str, Any], context: Any
    ) -> None:
        def begin() -> None:
            if not self.session.is_closed and not call.was_cancelled:
                call.task = self.session.loop.create_task(self._run(call, args, inputs, overrides))

        self.session.moves += 1
        self.session.loop.call_soon(begin, context=context)

    @staticmethod
    def _in_context(fiber: Fiber, look: Callable[[Any, dict[str, Any]], Any], target: Any, inputs: Any) -> Any:
        with settings.context(**fiber.overrides):
            return look(target, inputs)

    async def _run(self, call: Call, args: list[Any], inputs: dict[str, Any], overrides: dict[str, Any]) -> None:
        current.set(Current(self.session, "scout", call))
        try:
            isolated = {**overrides, **_ISOLATED, "trace": [], "usage_tracker": UsageTracker()}
            with unheard(), settings.context(**isolated):
                if isinstance(call.target, dspy.Module):
                    result = await start(_awaited(call.target, args, inputs), (), {})
                else:
                    result = await run_in_thread(call.target, tuple(args), inputs)
                    if call.has_diverged:
                        raise BailOut("a function that is declared @pure calls a predictor or an LM")
        except asyncio.CancelledError:
            return
        except BailOut as exc:
            call.failure, call.has_ended = exc, True
            self._scheduler.bail_out(call.point, exc, call.place)
            return
        except Exception as exc:
            call.failure, call.has_ended = exc, True
            self._fail(call, exc)
            return
        self.session.moves += 1
        call.result, call.has_ended, call.ended = result, True, time.perf_counter()
        assert call.outcome is not None
        self._resolve(call.outcome, private_copy(result))

    def _resolve(self, outcome: Pending, result: Any) -> None:
        self._scheduler.resolve(outcome, self.snapshot.own(result))

    # What ends it

    def _main_failed(self, call: Call, exc: BaseException) -> None:
        self._fail(call, exc)

    def _fail(self, call: Call, exc: BaseException) -> None:
        """A call raises, on either side: so it does on both."""
        failure = Failure(call.point, exc, call.place)
        self._cancel_after(failure, call.attempt)  # even if the scout has stopped before
        self._scheduler.fail(failure, call.attempt)
        self._scheduler.run()

    def _failed(self, failure: Failure) -> None:
        self.reasons.append(Reason(failure.place, f"{type(failure.exc).__name__}: {failure.exc}"))

    def _bailed_out(self, exc: BaseException, place: tuple[str, int] | None) -> None:
        if not isinstance(exc, BailOut):
            self.reasons.append(Reason(place, f"{type(exc).__name__}: {exc}"))
        elif exc.reason:
            self.reasons.append(Reason(place, exc.reason))

    def _cancel_after(self, failure: Failure, attempt: Any) -> None:
        """What comes after what raises, up to where that may be caught, will not be asked for."""
        self.session.cancel(lambda point: point > failure.point and (attempt is None or attempt.covers(point)))


def _awaited(target: Any, args: list[Any], inputs: dict[str, Any]) -> Any:
    # A coroutine function: its calls wait on the loop, whatever engine the program is on.
    async def call() -> Any:
        return target(*args, **inputs)

    return call


def _no_function() -> None:
    """Stands for the caller of the program."""


_NO_FUNCTION: Any = _no_function
