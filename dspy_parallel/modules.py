"""Gives DSPy modules an async `aforward()` made from their `forward()`."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

import dspy

from . import seams
from .bridge import Engine, check_engine, is_coroutine_function, is_generator_function, start
from .errors import DecorationError
from .seams.twins import is_twin

__all__ = ["AsyncModuleMixin", "async_module", "install", "uninstall"]

M = TypeVar("M", bound="dspy.Module | type[dspy.Module]")


@overload
def async_module(target: M, /, *, engine: Engine = ...) -> M: ...
@overload
def async_module(*, engine: Engine = ...) -> Callable[[M], M]: ...
def async_module(target: Any = None, /, *, engine: Engine = "auto") -> Any:
    """Give a module class an `aforward()` that runs its `forward()` without blocking the event loop.

    `await program.acall(...)` then computes what `program(...)` computes: the same outputs, exceptions, trace,
    history, usage and callbacks. Its LM calls go through `lm.acall` on the caller's loop, so that many programs
    overlap. `forward()` runs where the engine says (see `run()`), in the caller's context; a cancel is raised in it
    wherever it waits. The sync side is untouched: the class keeps its predictors, state and optimizers.

    A class that has an `aforward()` of its own keeps it. Only one that is inherited from above the class's
    `forward()`, and therefore does something else, is replaced.

    Args:
        target: A subclass of `dspy.Module`, or an instance: then every class in its module tree is covered.
        engine: `"auto"`, `"loop"` or `"thread"`.

    Returns:
        The class or instance itself.

    Raises:
        DecorationError: If the target is not a module, has no `forward()`, or one that is a coroutine function or
            a generator function.
        UnknownEngineError: For an unknown engine.

    Example:
        ```python
        import asyncio
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import async_module

        @async_module
        class Answer(dspy.Module):
            def __init__(self):
                super().__init__()
                self.predict = dspy.Predict("question -> answer")

            def forward(self, question):
                return self.predict(question=question)

        with dspy.context(lm=DummyLM([{"answer": "four"}])):
            assert asyncio.run(Answer().acall(question="2 + 2?")).answer == "four"
        ```
    """
    check_engine(engine)
    if target is None:
        return functools.partial(async_module, engine=engine)
    if isinstance(target, type) and issubclass(target, dspy.Module):
        _check_forward(target)
        _give_twins(target, engine)
    elif isinstance(target, dspy.Module):
        _check_forward(type(target))
        for _, module in target.named_sub_modules():
            if _has_sync_forward(type(module)):
                _give_twins(type(module), engine)
    else:
        what = target.__qualname__ if hasattr(target, "__qualname__") else f"an object of type {type(target).__qualname__}"
        raise DecorationError(
            f"@async_module was applied to {what}, which is neither a subclass nor an instance of dspy.Module. Use "
            "run() for a plain function."
        )
    seams.install()
    return target


class AsyncModuleMixin:
    """`@async_module` by inheritance: every subclass that is a `dspy.Module` gets an `aforward()`.

    The engine is given as a class keyword and is inherited. Classes with an `aforward()` of their own keep it.

    Raises:
        DecorationError: At class creation, if `forward()` is a coroutine function or a generator function.
        UnknownEngineError: At class creation, for an unknown engine.

    Example:
        ```python
        import dspy
        from dspy_parallel import AsyncModuleMixin

        class Answer(AsyncModuleMixin, dspy.Module, engine="loop"):
            def __init__(self):
                super().__init__()
                self.predict = dspy.Predict("question -> answer")

            def forward(self, question):
                return self.predict(question=question)

        assert callable(Answer().aforward)
        ```
    """

    _bridge_engine: Engine = "auto"

    def __init_subclass__(cls, *, engine: Engine | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if engine is not None:
            check_engine(engine)
            cls._bridge_engine = engine
        if issubclass(cls, dspy.Module) and hasattr(cls, "forward"):
            async_module(cls, engine=cls._bridge_engine)


def install(*, engine: Engine = "auto") -> None:
    """Make every forward-only module awaitable: yours, DSPy's own and other packages'.

    Covers classes that exist and those yet to be defined, among them `dspy.BestOfN`, `Refine`,
    `MultiChainComparison` and `ProgramOfThought`. Calling it again does nothing. It is process-wide and safe to
    call while programs run.

    Args:
        engine: `"auto"`, `"loop"` or `"thread"`; classes decorated with their own choice keep it.

    Raises:
        UnknownEngineError: For an unknown engine.

    Example:
        ```python
        import asyncio
        import dspy
        from dspy.utils import DummyLM
        import dspy_parallel

        dspy_parallel.install()
        best = dspy.BestOfN(dspy.Predict("q -> a"), N=2, reward_fn=lambda args, pred: 1.0, threshold=1.0)
        with dspy.context(lm=DummyLM([{"a": "yes"}])):
            assert asyncio.run(best.acall(q="?")).a == "yes"
        dspy_parallel.uninstall()
        ```
    """
    check_engine(engine)
    _installation.install(engine)
    seams.install()


def uninstall() -> None:
    """Undo `install()`, and unpatch everything that dspy_parallel has patched.

    Do not call it while programs run. Decorated classes keep their `aforward()`, which patches again what it needs
    when it is next called.

    Example:
        ```python
        import dspy, dspy_parallel

        dspy_parallel.install()
        dspy_parallel.uninstall()
        assert not hasattr(dspy.BestOfN, "aforward")
        ```
    """
    _installation.uninstall()
    seams.uninstall()


def _has_sync_forward(cls: type) -> bool:
    forward = getattr(cls, "forward", None)
    return callable(forward) and not is_coroutine_function(forward) and not is_generator_function(forward)


def _check_forward(cls: type) -> None:
    forward = getattr(cls, "forward", None)
    if forward is None:
        raise DecorationError(f"{cls.__qualname__} has no forward() to make an aforward() from. Define one.")
    if is_generator_function(forward):
        raise DecorationError(
            f"{cls.__qualname__}.forward is a generator function, which dspy.Module does not run to its end. Return "
            "a dspy.Prediction, and stream with dspy.streamify."
        )
    if is_coroutine_function(forward):
        raise DecorationError(
            f"{cls.__qualname__}.forward is a coroutine function already. Rename it to aforward; forward must be sync."
        )


def _is_generated(cls: type, name: str) -> bool:
    return hasattr(getattr(cls, name, None), "__bridge_engine__")


def _give_twins(cls: type, engine: Engine) -> list[str]:
    """Add what is missing or stale of `aforward` and `acall`; return the names added."""
    added = []
    for sync, twin, make in (("forward", "aforward", _make_aforward), ("__call__", "acall", _make_acall)):
        if _is_generated(cls, twin) or not is_twin(cls, sync, twin):
            setattr(cls, twin, make(getattr(cls, sync), engine))
            added.append(twin)
    return added


def _make_aforward(forward: Callable[..., Any], engine: Engine) -> Callable[..., Any]:
    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Looked up when called, because optimizers replace it on instances; and not as `self.forward`, which
        # logs that calling forward directly is discouraged.
        return await _run(object.__getattribute__(self, "forward"), args, kwargs, engine, type(self))

    return _dressed(aforward, forward, engine)


def _make_acall(call: Callable[..., Any], engine: Engine) -> Callable[..., Any]:
    """For a class that overrides `__call__` alone."""

    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await _run(functools.partial(type(self).__call__, self), args, kwargs, engine, type(self))

    return _dressed(acall, call, engine)


async def _run(fn: Callable[..., Any], args: Any, kwargs: Any, engine: Engine, cls: type) -> Any:
    seams.install()  # nothing after the first time; needed where a pickled class arrives in a new process
    return await start(fn, args, kwargs, engine, cls)


def _dressed(twin: Callable[..., Any], sync: Callable[..., Any], engine: Engine) -> Callable[..., Any]:
    name = twin.__name__
    functools.update_wrapper(twin, sync)
    twin.__name__ = name
    twin.__qualname__ = f"{sync.__qualname__.rpartition('.')[0]}.{name}"
    twin.__bridge_engine__ = engine  # type: ignore[attr-defined]
    return twin


class _Installation:
    """What `install()` has added, so that it can be taken away."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._seen: weakref.WeakSet[type] = weakref.WeakSet()
        self._added: list[tuple[weakref.ref[type], str]] = []
        self._stock_acall: Callable[..., Any] | None = None

    def install(self, engine: Engine) -> None:
        if self._engine is not None:
            return
        self._engine = engine
        for cls in _subclasses(dspy.Module):
            self._cover(cls)
        stock = self._stock_acall = dspy.Module.acall

        # Classes made later are covered when they are first called. (A hook on class creation would be too
        # early for classes that cloudpickle rebuilds: they get their methods afterwards.)
        @functools.wraps(stock)
        async def acall(module: Any, *args: Any, **kwargs: Any) -> Any:
            if type(module) not in self._seen:
                self._cover(type(module))
            return await stock(module, *args, **kwargs)

        dspy.Module.acall = acall
        if not hasattr(dspy.Module, "aforward"):
            dspy.Module.aforward = _make_aforward(dspy.Module.__call__, engine)
            self._added.append((weakref.ref(dspy.Module), "aforward"))

    def _cover(self, cls: type) -> None:
        self._seen.add(cls)
        if self._engine is not None and _has_sync_forward(cls) and not _is_generated(cls, "aforward"):
            self._added += [(weakref.ref(cls), name) for name in _give_twins(cls, self._engine)]

    def uninstall(self) -> None:
        if self._engine is None:
            return
        self._engine = None
        dspy.Module.acall = self._stock_acall
        for reference, name in self._added:
            cls = reference()
            if cls is not None and name in vars(cls):
                delattr(cls, name)
        self._added.clear()
        self._seen.clear()


_installation = _Installation()


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
