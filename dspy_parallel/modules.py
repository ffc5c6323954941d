"""Gives DSPy modules an async `aforward()` made from their `forward()`."""

from __future__ import annotations

import functools
import importlib
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast, overload

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
    `forward()`, and therefore does something else, is replaced. Decorating again changes the engine. A class that does
    its work in `__call__` instead of `forward()` gets an `acall()`.

    Args:
        target: A subclass of `dspy.Module`, or an instance: then its class and every class in its module tree that
            is not decorated already.
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
        _check(target, getattr(target, "forward", None))
        _give_twins(target, engine)
    elif isinstance(target, dspy.Module):
        cls = type(target)
        _check(cls, vars(target).get("forward") or getattr(cls, "forward", None))
        _give_twins(cls, engine)
        for _, module in target.named_sub_modules():
            if _is_coverable(type(module)):
                _give_twins(type(module), engine, keep=True)
    else:
        what = getattr(target, "__qualname__", None) or f"an object of type {type(target).__qualname__}"
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
    `MultiChainComparison` and `ProgramOfThought`; and classes that are merely called like modules: `dspy.Parallel`,
    `dspy.KNN`, `dspy.Retrieve` and `dspy.retrievers.Embeddings`. Calling it again changes the engine. It is
    process-wide and safe to call while programs run.

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


def _is_sync(fn: Any) -> bool:
    return callable(fn) and not is_coroutine_function(fn) and not is_generator_function(fn)


def _definer(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def _replaces_call(cls: type) -> bool:
    """Whether the class does its work in a `__call__` of its own instead of `forward`."""
    return _definer(cls, "__call__") not in (dspy.Module, type, None)


def _is_coverable(cls: type) -> bool:
    forward = getattr(cls, "forward", None)
    return _is_sync(forward) if forward is not None else _replaces_call(cls) and _is_sync(cls.__call__)


def _check(cls: type, forward: Any) -> None:
    """Raise the error that says why no `aforward()` can be made."""
    name = f"{cls.__qualname__}.forward"
    if forward is None:
        if not _replaces_call(cls):
            raise DecorationError(f"{cls.__qualname__} has no forward() to make an aforward() from. Define one.")
        name, forward = f"{cls.__qualname__}.__call__", cls.__call__
    if not callable(forward):
        raise DecorationError(f"{name} is {forward!r}, which cannot be called. Make it a method.")
    if is_generator_function(forward):
        raise DecorationError(
            f"{name} is a generator function, which dspy.Module does not run to its end. Return a dspy.Prediction, "
            "and stream with dspy.streamify."
        )
    if is_coroutine_function(forward):
        twin = "acall" if name.endswith("__call__") else "aforward"
        raise DecorationError(f"{name} is a coroutine function already. Rename it to {twin}; {name} must be sync.")


def _is_generated(cls: type, name: str) -> bool:
    return hasattr(getattr(cls, name, None), "__bridge_engine__")


def _give_twins(cls: type, engine: Engine, *, keep: bool = False) -> list[tuple[str, Any]]:
    """Add what is missing or stale of `aforward` and `acall`; return what was added.

    With `keep`, twins that were generated for the class or a base before, perhaps for another engine, stay.
    """
    added = []
    for sync, twin, make in (("forward", "aforward", _make_aforward), ("__call__", "acall", _make_acall)):
        generated = _is_generated(cls, twin)
        if (generated and not keep) or not (generated or is_twin(cls, sync, twin)):
            if sync == "forward" and not hasattr(cls, "forward") and _replaces_call(cls):
                continue
            made = make(cls, engine)
            setattr(cls, twin, made)
            added.append((twin, made))
    return added


def _make_aforward(owner: type, engine: Engine) -> Callable[..., Any]:
    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        _arrive()
        cls = type(self)
        # Called as super().aforward(), it stands for super().forward().
        is_super = _definer(cls, "aforward") is not owner
        forward = functools.partial(owner.forward, self) if is_super else _look_up(self)  # type: ignore[attr-defined]
        return await start(forward, args, kwargs, engine, cls)

    return _dressed(aforward, getattr(owner, "forward", owner.__call__), engine)


def _make_acall(owner: type, engine: Engine) -> Callable[..., Any]:
    """For a class that overrides `__call__` alone."""

    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        _arrive()
        cls = type(self)
        call = (cls if _definer(cls, "acall") is owner else owner).__call__
        return await start(functools.partial(call, self), args, kwargs, engine, cls)

    return _dressed(acall, owner.__call__, engine)


def _look_up(module: Any) -> Callable[..., Any]:
    """The module's `forward`, found when called, because optimizers replace it on instances.

    Code of any other name than `__call__` that reads `module.forward` is told by DSPy, in its log, that this is
    discouraged.
    """

    def __call__() -> Callable[..., Any]:
        return cast("Callable[..., Any]", module.forward)

    return __call__()


def _arrive() -> None:
    """A decorated class that was pickled by value may be the first to need the seams in its new process."""
    seams.install()


def _dressed(twin: Callable[..., Any], sync: Callable[..., Any], engine: Engine) -> Callable[..., Any]:
    name = twin.__name__
    functools.update_wrapper(twin, sync)
    twin.__name__ = name
    twin.__qualname__ = f"{sync.__qualname__.rpartition('.')[0]}.{name}"
    vars(twin).pop("__isabstractmethod__", None)
    twin.__bridge_engine__ = engine  # type: ignore[attr-defined]
    return twin


class _Installation:
    """What `install()` has added, so that it can be taken away."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._seen: weakref.WeakSet[type] = weakref.WeakSet()
        self._added: list[tuple[weakref.ref[type], str, Any]] = []
        self._stock_acall: Callable[..., Any] | None = None
        self._acall: Callable[..., Any] | None = None

    def install(self, engine: Engine) -> None:
        if self._engine == engine:
            return
        self.uninstall()
        self._engine = engine
        for cls in _subclasses(dspy.Module):
            self._cover(cls)
        for name in _MODULE_LIKE:
            self._cover(cast("type", _by_name(name)))
        base: Any = dspy.Module
        stock = self._stock_acall = base.acall

        # Classes made later are covered when they are first called. (A hook on class creation would be too
        # early for classes that cloudpickle rebuilds: they get their methods afterwards.)
        @functools.wraps(stock)
        async def acall(module: Any, *args: Any, **kwargs: Any) -> Any:
            if type(module) not in self._seen:
                self._cover(type(module))
            return await stock(module, *args, **kwargs)

        base.acall = self._acall = acall
        if not hasattr(base, "aforward"):
            base.aforward = aforward = _make_aforward(base, engine)
            self._added.append((weakref.ref(base), "aforward", aforward))

    def _cover(self, cls: type) -> None:
        self._seen.add(cls)
        if self._engine is not None and _is_coverable(cls):
            added = _give_twins(cls, self._engine, keep=True)
            self._added += [(weakref.ref(cls), name, value) for name, value in added]

    def uninstall(self) -> None:
        if self._engine is None:
            return
        self._engine = None
        for reference, name, value in self._added:
            cls = reference()
            # Not what a decorator has replaced since then.
            if cls is not None and vars(cls).get(name) is value:
                delattr(cls, name)
        self._added.clear()
        self._seen.clear()
        base: Any = dspy.Module
        if base.acall is self._acall:  # and has not been wrapped by somebody else
            base.acall = self._stock_acall


_installation = _Installation()

_MODULE_LIKE = (
    "dspy.predict.parallel:Parallel",
    "dspy.predict.knn:KNN",
    "dspy.retrievers.retrieve:Retrieve",
    "dspy.retrievers.embeddings:Embeddings",
)
"""Classes that are called like modules and are none: they have neither `acall` nor `aforward`."""


def _by_name(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _subclasses(cls: type) -> Iterator[type]:
    subclass: type
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
