"""The scout: runs ahead of a program, and makes the LM calls that the program is certain to make."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import dspy
from dspy.dsp.utils.settings import settings
from dspy.utils.usage_tracker import UsageTracker

from ..bridge import run_in_thread, start
from . import calls, expressions, replies
from .entrance import Overlap
from .frame import Frame, reachable
from .outside import Outside, private_copy
from .predictors import manner_of, uses_cache, why_not
from .regards import Verdicts
from .session import Call, Current, Session, current
from .strands import Halted, Path, Pending, Strand, Strands

__all__ = ["Scout"]

MAX_STEPS = 20_000
"""How many expressions the scout evaluates from one call to the next: some 40 ms, in which the loop stands still."""

MAX_GUESSES = 32
"""How many calls there may be at a time that the program may not come to."""

_ISOLATED: dict[str, Any] = {
    "callbacks": [],
    "disable_history": True,
    "send_stream": None,
    "stream_listeners": [],
    "caller_modules": [],
}
"""What the scout's calls leave no marks in. Its trace and usage are lists of its own."""


class Reason(NamedTuple):
    """Why something was not done ahead of its turn, and where."""

    place: tuple[str, int] | None
    text: str


@dataclass
class Attempt:
    """The body of a `try`, as places in program order.

    Attributes:
        strand: Of the strand that is in it.
        begin: Where it begins.
        end: What comes after it; None while the strand is in it.
    """

    strand: Path
    begin: Path
    end: Path | None = None

    def covers(self, path: Path) -> bool:
        """Whether a place is in it."""
        is_before_end = path[: len(self.strand)] == self.strand if self.end is None else path < self.end
        return self.begin <= path and is_before_end


class Scout:
    """Interprets one run of one program.

    Args:
        session: What it shares with the main line.
        function: The program.
        args: Its arguments.
        kwargs: Its keyword arguments.
        how: How far it may go.
    """

    def __init__(
        self, session: Session, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], how: Overlap
    ) -> None:
        self.session = session
        self.how = how
        self.outside = Outside(self._is_behind)
        self._has_begun = False
        self._steps = 0
        self.verdicts = Verdicts()
        self.reasons: list[Reason] = []
        self._attempts: list[Attempt] = []
        self._context = contextvars.copy_context()
        self._strands = Strands(self._context, self._failed, reachable, self.outside.is_shared)
        self._function, self._args, self._kwargs = function, args, kwargs
        if isinstance(function, functools.partial):  # `forward` of a module
            self._function = function.func
            self._args, self._kwargs = (*function.args, *args), {**function.keywords, **kwargs}
        try:
            self.outside.freeze(self._function, self._args, self._kwargs)
        except Exception as exc:  # an object that cannot be looked at: its program runs without a scout
            self._strands.failed((), exc)
        session.on_result = self._resolve
        session.on_failure = self._main_failed

    def go(self) -> None:
        """Run ahead, as far as that goes for now."""
        if self.session.is_closed or self._strands.is_halted:
            return

        def program(strand: Strand) -> Any:
            args = [self.outside.adopt(arg) for arg in self._args]
            kwargs = {name: self.outside.adopt(value) for name, value in self._kwargs.items()}
            return calls.apply(Frame(self, strand, {}, function=_NO_FUNCTION), self._function, args, kwargs)

        self._has_begun = True
        self._strands.start(program)

    def _is_behind(self) -> bool:
        """Whether the program may be past the place that the scout is at."""
        return self._has_begun and not self.session.is_held_before(self._strands.here)

    def close(self) -> None:
        """The program has ended."""
        if not self._strands.is_halted:
            for place, what in self._strands.never_known():
                self.reasons.append(Reason(place, f"{what} is known only when the program comes to it"))
        self._strands.close()

    def step(self) -> None:
        """One more expression."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise Halted("the program computes a lot here, which the scout would do slowly")

    def unknown(self, what: str, *, is_data: bool) -> Pending:
        """A value that the scout cannot know."""
        value = Pending(what)
        value.is_unknown, value.is_data = True, is_data
        return value

    # Calls

    def issue(self, frame: Frame, target: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The result of calling a predictor or a pure function, made as soon as its inputs are there."""
        place = frame.place

        def work(strand: Strand) -> Any:
            inner = frame.at(strand)
            named = {name: inner.ready(value) for name, value in kwargs.items()}
            positional = [inner.ready(value) for value in args]
            expressions.check_plain(named, positional, as_text=True)
            known, positional = private_copy(named), private_copy(positional)
            reason = replies.why_not(inner, target.signature) if type(target) is dspy.Predict else None
            return self._make(strand, target, positional, known, place, reason)

        return frame.strand.fork(work, f"the call on line {place[1]}", reachable([*args, *kwargs.values()]))

    def _make(
        self,
        strand: Strand,
        target: Any,
        args: list[Any],
        inputs: dict[str, Any],
        place: tuple[str, int],
        reason: str | None,
    ) -> Pending:
        self._steps = 0
        path = strand.next_path()
        is_predictor = type(target) is dspy.Predict
        outcome = Pending(f"the call on line {place[1]}", guess=strand.guess)
        wanted: Any = inputs if is_predictor else (tuple(args), inputs)
        context = self._context.copy()
        manner = context.run(self._in_context, strand, manner_of, target, inputs) if is_predictor else ()
        call = Call("scout", target, private_copy(wanted), manner, path, place, outcome=outcome)
        outcome.call, call.cause = call, strand.waited_for
        call.is_whole = isinstance(target, dspy.Module) and not is_predictor
        if is_predictor and reason is None:
            reason = context.run(self._in_context, strand, why_not, target, inputs)
            if (
                reason is None
                and self.session.would_overtake(call)
                and context.run(self._in_context, strand, uses_cache, target, inputs)
            ):
                reason = "an equal call comes before it, whose answer the cache will have"
        call.is_issued = reason is None
        if strand.guess is not None:
            return self._suppose(call, strand, args, inputs, context)
        if reason is not None:
            self.reasons.append(Reason(place, reason))
        made = self.session.begin(call)
        if made is not call:
            outcome.call = made
            self._take(made, outcome)
        elif call.came_second or reason is not None:
            call.is_issued = False
        else:
            self._start(call, args, inputs, strand.overrides, context)
        return outcome

    def _start(
        self, call: Call, args: list[Any], inputs: dict[str, Any], overrides: dict[str, Any], context: Any
    ) -> None:
        def begin() -> None:
            if not self.session.is_closed and not call.was_cancelled:
                call.task = self.session.loop.create_task(self._run(call, args, inputs, overrides))

        self.session.loop.call_soon(begin, context=context)

    def _suppose(self, call: Call, strand: Strand, args: list[Any], inputs: dict[str, Any], context: Any) -> Pending:
        """The result of a call on one side of an undecided branch."""
        if not call.is_issued or call.is_whole or len(self.session.guesses) >= MAX_GUESSES:
            raise Halted
        call.guess, call.guessed, call.outcome = strand.guess, call.outcome, None
        made = self.session.suppose(call)
        if made is None:
            raise Halted
        if made is call:
            self._start(call, args, inputs, strand.overrides, context)
        assert made.guessed is not None
        return made.guessed

    def _take(self, made: Call, outcome: Pending) -> None:
        """The scout has come to a call that was made on a guess."""
        if made.failure is not None:
            self._strands.failed(made.path, made.failure, made.place)
            raise Halted
        if made.has_ended:
            outcome.resolve(self.outside.own(private_copy(made.result)))

    @staticmethod
    def _in_context(strand: Strand, look: Callable[[Any, dict[str, Any]], Any], target: Any, inputs: Any) -> Any:
        with settings.context(**strand.overrides):
            return look(target, inputs)

    async def _run(self, call: Call, args: list[Any], inputs: dict[str, Any], overrides: dict[str, Any]) -> None:
        current.set(Current(self.session, "scout", call))
        try:
            with settings.context(**_ISOLATED, trace=[], usage_tracker=UsageTracker(), **overrides):
                if isinstance(call.target, dspy.Module):
                    result = await start(_awaited(call.target, args, inputs), (), {}, "auto")
                else:
                    result = await run_in_thread(call.target, tuple(args), inputs)
                    if call.has_diverged:
                        raise Halted("a function that is declared @pure calls a predictor or an LM")
        except asyncio.CancelledError:
            return
        except (Exception, Halted) as exc:
            call.failure, call.has_ended = exc, True
            if call.outcome is not None:
                self._strands.failed(call.path, exc, call.place)
            elif call.guess is not None:
                call.guess.end()
            return
        call.result, call.has_ended, call.ended = result, True, time.perf_counter()
        for outcome in (call.outcome, call.guessed):
            if outcome is not None:
                self._resolve(outcome, private_copy(result))

    def _resolve(self, outcome: Pending, result: Any) -> None:
        self._strands.resolve(outcome, self.outside.own(result))

    def _main_failed(self, path: Path, exc: BaseException, place: tuple[str, int] | None) -> None:
        self._strands.failed(path, exc, place)
        self._cancel(path)  # even if the scout has stopped before

    def _failed(self, path: Path, exc: BaseException, place: tuple[str, int] | None) -> None:
        if isinstance(exc, Halted):
            if exc.reason:
                self.reasons.append(Reason(place, exc.reason))
            return
        self.reasons.append(Reason(place, f"{type(exc).__name__}: {exc}"))
        self._cancel(path)

    def attempt(self, strand: Strand) -> Attempt:
        """The body of a `try` begins here, whose exceptions the program may catch."""
        self._attempts.append(attempt := Attempt(strand.path, strand.here))
        return attempt

    def _cancel(self, failed: Path) -> None:
        """Something raises here. What comes after it, up to where that may be caught, will not be asked for."""
        caught = max(
            (each for each in self._attempts if each.covers(failed)), key=lambda each: each.begin, default=None
        )
        self.session.cancel(lambda path: path > failed and (caught is None or caught.covers(path)))


def _awaited(target: Any, args: list[Any], inputs: dict[str, Any]) -> Any:
    # A coroutine function: its calls wait on the loop, whatever engine the program is on.
    async def call() -> Any:
        return target(*args, **inputs)

    return call


def _no_function() -> None:
    """Stands for the caller of the program."""


_NO_FUNCTION: Any = _no_function
