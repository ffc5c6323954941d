"""Gives DSPy modules an async `aforward()` made from their `forward()`."""

from __future__ import annotations

import functools
import importlib
import warnings
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

import dspy

from . import seams
from .errors import DecorationError, described
from .generated import check_module, give_twins, is_coverable, look_up, make_aforward, remove_overlap, replaces_call
from .placement import Engine, check_engine
from .programs import place
from .seams import loop_executor
from .seams.table import Seam, register

__all__ = ["AsyncModuleMixin", "async_module", "install", "uninstall"]

M = TypeVar("M", bound="dspy.Module | type[dspy.Module]")


@overload
def async_module(target: M, /, *, engine: Engine = ..., overlap: bool = ..., speculate: bool = ...) -> M: ...
@overload
def async_module(*, engine: Engine = ..., overlap: bool = ..., speculate: bool = ...) -> Callable[[M], M]: ...
def async_module(
    target: Any = None, /, *, engine: Engine = "auto", overlap: bool = False, speculate: bool = False
) -> Any:
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
        overlap: Whether independent predictor calls inside one `forward()` run at once, in `acall` and in plain
            calls, which then run on the event loop that serves sync callers. See docs/overlap.md.
        speculate: Does nothing any more.

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
        return functools.partial(async_module, engine=engine, overlap=overlap, speculate=speculate)
    if speculate:
        warnings.warn("speculate=True does nothing any more: overlap=True overlaps", DeprecationWarning, stacklevel=2)
    if isinstance(target, type) and issubclass(target, dspy.Module):
        check_module(target, getattr(target, "forward", None))
        give_twins(target, engine, overlap=overlap)
    elif isinstance(target, dspy.Module):
        cls = type(target)
        check_module(cls, look_up(target, None))
        give_twins(cls, engine, overlap=overlap)
        for _, module in target.named_sub_modules():
            if is_coverable(type(module)):
                give_twins(type(module), engine, keep=True)
    else:
        raise DecorationError(
            f"@async_module was applied to {described(target)}, which is neither a subclass nor an instance of "
            "dspy.Module. Use run() for a plain function."
        )
    seams.install()
    return target


P = ParamSpec("P")
R = TypeVar("R", covariant=True)


class _HasForward(Protocol[P, R]):
    def forward(self, *args: P.args, **kwargs: P.kwargs) -> R: ...


class AsyncModuleMixin:
    """`@async_module` by inheritance: every subclass that is a `dspy.Module` gets an `aforward()`.

    Engine and overlap are given as class keywords and are inherited. Classes with an `aforward()` of their own keep it.
    Type checkers see `acall()` with the signature of `forward()`. (A decorator cannot tell them that.)

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
    _bridge_overlap: bool = False

    if TYPE_CHECKING:

        @property
        def acall(self: _HasForward[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
            """DSPy's, with the signature of `forward()`."""
            ...

    def __init_subclass__(cls, *, engine: Engine | None = None, overlap: bool | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if overlap is not None:
            cls._bridge_overlap = overlap
        if engine is not None:
            check_engine(engine)
            cls._bridge_engine = engine
        if issubclass(cls, dspy.Module) and (hasattr(cls, "forward") or replaces_call(cls)):
            async_module(cls, engine=cls._bridge_engine, overlap=cls._bridge_overlap)


def install(*, engine: Engine = "auto", executors: bool = False, overlap: bool = False) -> None:
    """Make every forward-only module awaitable: yours, DSPy's own and other packages'.

    Covers classes that exist and those yet to be defined, among them `dspy.BestOfN`, `Refine`,
    `MultiChainComparison` and `ProgramOfThought`; and classes that are merely called like modules: `dspy.Parallel`,
    `dspy.KNN`, `dspy.Retrieve` and `dspy.retrievers.Embeddings`. Calling it again changes the engine. It is
    process-wide and safe to call while programs run.

    Args:
        engine: `"auto"`, `"loop"` or `"thread"`; classes decorated with their own choice keep it.
        executors: Whether the items of `dspy.Parallel`, `Module.batch`, `dspy.Evaluate` and all optimizers run on the
            event loop instead of in DSPy's threads, from sync code too. `num_threads` then means items in flight.
        overlap: Whether independent predictor calls inside one `forward()` run at once, see docs/overlap.md. Not for
            DSPy's own modules.

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
    _installation.install(engine, overlap)
    seams.install()
    loop_executor.use_loop(functools.partial(place, engine=engine) if executors else None)


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
    loop_executor.use_loop(None)
    seams.uninstall()  # first: some are around what the installation has put there
    _installation.uninstall()


class _Installation:
    """What `install()` has added, so that it can be taken away."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._overlap = False
        self._seen: weakref.WeakSet[type] = weakref.WeakSet()
        self._added: list[tuple[weakref.ref[type], str, weakref.ref[Any]]] = []
        self._hook: Any = None

    def install(self, engine: Engine, overlap: bool) -> None:
        if (self._engine, self._overlap) == (engine, overlap):
            return
        self.uninstall()
        self._engine, self._overlap = engine, overlap
        for cls in _subclasses(dspy.Module):
            self._cover(cls)
        for name in _MODULE_LIKE:
            self._cover(cast("type", _by_name(name)))
        base: Any = dspy.Module

        # Classes made later are covered when they are made, and again when they are first called: those that
        # cloudpickle rebuilds get their methods only after they were made.
        def __init_subclass__(cls: type[Any], /, **kwargs: Any) -> None:
            super(base, cls).__init_subclass__(**kwargs)
            self._cover(cls)
            self._seen.discard(cls)

        if not hasattr(base, "aforward"):
            base.aforward = aforward = make_aforward(base, engine)
            self._note(base, "aforward", aforward)
        if "__init_subclass__" not in vars(base):
            base.__init_subclass__ = self._hook = classmethod(__init_subclass__)

    def covering(self, stock: Callable[..., Any]) -> Callable[..., Any]:
        """A `Module.acall()` that covers the module's class, if that has not been seen yet."""

        @functools.wraps(stock)
        async def acall(module: Any, *args: Any, **kwargs: Any) -> Any:
            if self._engine is not None and type(module) not in self._seen:
                self._cover(type(module))
            return await stock(module, *args, **kwargs)

        return acall

    def _note(self, cls: type, name: str, value: Any) -> None:
        # The value, too, would keep the class alive.
        self._added.append((weakref.ref(cls), name, weakref.ref(value)))

    def _cover(self, cls: type) -> None:
        self._seen.add(cls)
        if self._engine is not None and is_coverable(cls):
            overlap = self._overlap and not str(cls.__module__).startswith("dspy.")
            for name, value in give_twins(cls, self._engine, keep=True, overlap=overlap):
                self._note(cls, name, value)

    def uninstall(self) -> None:
        if self._engine is None:
            return
        self._engine = None
        for reference, name, value in self._added:
            cls = reference()
            # Not what a decorator has put there since then.
            if cls is not None and vars(cls).get(name) is value():
                if name == "forward":
                    remove_overlap(cls)
                else:
                    delattr(cls, name)
        self._added.clear()
        self._seen.clear()
        base: Any = dspy.Module
        if self._hook is not None and vars(base).get("__init_subclass__") is self._hook:
            del base.__init_subclass__


_installation = _Installation()
# A row like all others, so that whatever is put around it later is taken away before it.
register(Seam("dspy.primitives.module:Module.acall", replacement=_installation.covering, layer="install"))

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
