"""Carries certain exceptions through DSPy's `except Exception`.

`dspy.ReAct` catches whatever a tool raises and tells the model about it; `BestOfN` and `Refine` count it as a failed
attempt, `ProgramOfThought` as a bug of the code that it has run. That a program is pinned to `engine="loop"` and
needs a thread is nothing that a model could do anything about: it has to reach whoever pinned it.

So where such an exception leaves user code, or a seam, for code *of DSPy*, it is exchanged for a `BaseException` that
carries it, and exchanged back where it leaves DSPy again. User code always sees the exception itself and can catch it.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Any

import dspy

from ..bridge.kernel import current_greenlet_program
from ..errors import ThreadRequiredError

# Before ours, whose rows are to be around theirs.
from . import code_interpreters, tools  # noqa: F401  # pyright: ignore[reportUnusedImport]
from .table import Seam, register

__all__ = ["Carried", "callers", "callers_outside", "carry", "carrying", "is_carrying", "leaving"]


class Carried(BaseException):
    """Not an `Exception`, so that it passes where one would be swallowed."""

    def __init__(self, exception: Exception) -> None:
        super().__init__(exception)
        self.exception = exception


callers_outside: contextvars.ContextVar[int] = contextvars.ContextVar("dspy_parallel_callers_outside", default=0)
"""How many modules of those in `callers()` are none of the running code's business: they called what called it."""


def callers() -> list[Any]:
    """The DSPy modules whose `forward()` is running, outermost first."""
    return dspy.settings.get("caller_modules") or []


def _is_called_by_dspy() -> bool:
    """Whether the running code was called by code of DSPy's, which may swallow what it raises."""
    running = callers()
    if len(running) <= callers_outside.get():
        return False
    cls = type(running[-1])
    definer = next((base for base in cls.__mro__ if "forward" in vars(base)), cls)
    return str(definer.__module__).partition(".")[0] == "dspy"


def _is_strict() -> bool:
    program = current_greenlet_program()
    return program is not None and program.strict


_rules: list[Callable[[], bool]] = [_is_strict]
_kinds: tuple[type[BaseException], ...] = (ThreadRequiredError, Carried)


def carry(kind: type[Exception], when: Callable[[], bool]) -> None:
    """Have one more kind of exception carried, and look out for it in certain code."""
    global _kinds
    _kinds = (*_kinds, kind)
    _rules.append(when)


def is_carrying() -> bool:
    """Whether one of these exceptions may be raised here."""
    return any(rule() for rule in _rules)


def leaving(exc: BaseException) -> BaseException:
    """The form that the exception has to take for the code that called what it leaves now."""
    original: Any = exc.exception if isinstance(exc, Carried) else exc
    if not _is_called_by_dspy():
        return original  # type: ignore[no-any-return]
    return exc if isinstance(exc, Carried) else Carried(original)


def carrying(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A seam's handler: calls the original."""
    try:
        return original(*args, **kwargs)
    except _kinds as exc:
        form = leaving(exc)
        if form is exc:
            raise
    raise form


def _acall(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _awaited(original(*args, **kwargs))


async def _awaited(coroutine: Any) -> Any:
    try:
        return await coroutine
    except _kinds as exc:
        form = leaving(exc)
        if form is exc:
            raise
    raise form


class _Rewarding:
    """A reward function while `BestOfN` or `Refine` calls it; copies of the module have the function itself."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.runs = 0

    def __call__(self, *args: Any) -> Any:
        return carrying(self.fn, None, args, {})

    def __reduce__(self) -> Any:
        return _same, (self.fn,)


def _same(fn: Any) -> Any:
    return fn


_lock = threading.Lock()


def _with_reward(original: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    with _lock:
        rewarding = module.reward_fn
        if not isinstance(rewarding, _Rewarding):
            rewarding = module.reward_fn = _Rewarding(rewarding)
        rewarding.runs += 1
    try:
        return original(*args, **kwargs)
    finally:
        with _lock:
            rewarding.runs -= 1
            if not rewarding.runs and module.reward_fn is rewarding:
                module.reward_fn = rewarding.fn


def _row(target: str, handler: Callable[..., Any], *, since: str = "") -> Seam:
    return Seam(target, handler, since=since, when=is_carrying, layer="tunnel")


register(
    _row("dspy.primitives.module:Module.__call__", carrying),
    _row("dspy.primitives.module:Module.acall", _acall),
    _row("dspy.adapters.types.tool:Tool.__call__", carrying),
    _row("dspy.adapters.types.tool:Tool.acall", _acall),
    _row("dspy.predict.best_of_n:BestOfN.forward", _with_reward),
    _row("dspy.predict.refine:Refine.forward", _with_reward),
    _row("dspy.primitives.python_interpreter:PythonInterpreter.execute", carrying),
    _row("dspy.primitives.local_interpreter:LocalInterpreter.execute", carrying, since="3.4"),
)
