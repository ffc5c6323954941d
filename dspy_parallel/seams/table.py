"""The table of calls that block a thread, and how each is patched and restored.

A row names one sync callable by where it is *defined*, because a call through a subclass or an alias of the
class finds it there. Patches are wrapt function wrappers that cost an attribute check outside the bridge. Only
classes and modules are patched, never instances: DSPy deep-copies and pickles those.
"""

from __future__ import annotations

import copy
import importlib
import sys
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import wrapt

from ..bridge import call_in_thread, in_bridge
from ..errors import SeamError
from .twins import await_twin

__all__ = ["Handler", "Seam", "add_seam", "install", "register", "uninstall"]

Handler = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called as `handler(original, instance, args, kwargs)`; the original is bound to the instance."""


@dataclass(frozen=True)
class Seam:
    """One row: a sync callable that blocks, and what takes its place inside the bridge.

    Attributes:
        target: `"package.module:name"` or `"package.module:Class.method"`.
        handler: Takes the call's place.
        replacement: Instead of a handler: makes the function that replaces the original for good.
        overrides: Whether definitions of the method in subclasses, present and future, are covered too.
        optional: Whether the target is missing in some supported versions.
        everywhere: Whether the handler is called outside the bridge, too.
        layer: Sets apart rows for one target, of which the later ones wrap the earlier ones.
    """

    target: str
    handler: Handler | None = None
    replacement: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    overrides: bool = False
    optional: bool = False
    everywhere: bool = False
    layer: str = ""

    @property
    def key(self) -> str:
        return f"{self.target}#{self.layer}"

    @property
    def module(self) -> str:
        return self.target.partition(":")[0]

    @property
    def path(self) -> list[str]:
        return self.target.partition(":")[2].split(".")


def _by_name(module: str, path: str) -> Any:
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


class _Bound(wrapt.BoundFunctionWrapper):  # type: ignore[misc]
    """A patched method: copied and pickled as a plain method is."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        instance = self._self_instance
        return self if instance is None else getattr(copy.deepcopy(instance, memo), self.__name__)

    def __copy__(self) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        instance = self._self_instance
        if instance is None:
            return _by_name, (self.__module__, self.__qualname__)
        return getattr, (instance, self.__name__)


class _Patch(wrapt.FunctionWrapper):  # type: ignore[misc]
    """A patched function: copied and pickled by name, as functions are."""

    __bound_function_wrapper__ = _Bound

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self

    def __copy__(self) -> Any:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _by_name, (self.__module__, self.__qualname__)


_MISSING = object()


class _Table:
    def __init__(self) -> None:
        self._rows: dict[str, Seam] = {}
        self._restore: list[Callable[[], None]] = []
        self._hooked: set[str] = set()
        self._patched: set[str] = set()
        self._installed = False
        self._lock = threading.RLock()

    def add(self, seam: Seam) -> None:
        with self._lock:
            if seam.key in self._rows:
                raise SeamError(f"There is a seam for {seam.target} already; uninstall() and remove it first.")
            self._rows[seam.key] = seam
            if self._installed:
                self._patch_when_imported(seam)

    def install(self) -> None:
        if self._installed:
            return
        with self._lock:
            if not self._installed:
                for seam in self._rows.values():
                    self._patch_when_imported(seam)
                self._installed = True

    def uninstall(self) -> None:
        with self._lock:
            self._installed = False
            while self._restore:
                self._restore.pop()()
            self._patched.clear()

    def _patch_when_imported(self, seam: Seam) -> None:
        if seam.module in sys.modules:
            self._patch(seam)
        elif seam.module not in self._hooked:
            self._hooked.add(seam.module)
            wrapt.register_post_import_hook(self._module_imported, seam.module)

    def _module_imported(self, module: Any) -> None:
        with self._lock:
            if self._installed:
                for seam in self._rows.values():
                    if seam.module == module.__name__:
                        self._patch(seam)

    def _patch(self, seam: Seam) -> None:
        if seam.key in self._patched:
            return
        owner: Any = importlib.import_module(seam.module)
        *path, name = seam.path
        for step in path:
            owner = getattr(owner, step, _MISSING)
        if owner is _MISSING or not hasattr(owner, name):
            if seam.optional:
                return
            raise SeamError(f"{seam.target} does not exist. Check the name, or the version that is installed.")
        if isinstance(owner, type) and name not in vars(owner):
            definer = next(cls for cls in owner.__mro__ if name in vars(cls))
            raise SeamError(f"{seam.target} is inherited: name the class that defines it, {definer.__qualname__}.")
        self._patched.add(seam.key)
        self._wrap(owner, name, seam)
        if seam.overrides:
            self._cover_subclasses(owner, name, seam)

    def _wrap(self, owner: Any, name: str, seam: Seam) -> None:
        original = vars(owner)[name]
        if seam.replacement is not None:
            setattr(owner, name, seam.replacement(original))
        else:
            setattr(owner, name, _Patch(original, seam.handler, True if seam.everywhere else in_bridge))
        self._restore.append(lambda: setattr(owner, name, original))

    def _cover_subclasses(self, base: type, name: str, seam: Seam) -> None:
        def cover(cls: type) -> None:
            if name in vars(cls) and not isinstance(vars(cls)[name], _Patch):
                self._wrap(cls, name, seam)

        def cover_below(cls: type) -> None:
            for subclass in cls.__subclasses__():
                cover(subclass)
                cover_below(subclass)

        def __init_subclass__(cls: type, **kwargs: Any) -> None:
            super(base, cls).__init_subclass__(**kwargs)
            cover(cls)

        cover_below(base)
        if "__init_subclass__" not in vars(base):
            base.__init_subclass__ = classmethod(__init_subclass__)  # type: ignore[assignment]
            self._restore.append(lambda: delattr(base, "__init_subclass__"))


_table = _Table()
install = _table.install
uninstall = _table.uninstall


def register(*seams: Seam) -> None:
    """Add rows of our own, before the table is installed."""
    for seam in seams:
        _table.add(seam)


def in_thread(reason: str) -> Handler:
    """A handler that runs the original in a worker thread.

    Args:
        reason: Completes "... needs a thread because ..." in errors.
    """

    def handler(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return call_in_thread(original, args, kwargs, reason)

    return handler


def add_seam(target: str, awaits: Callable[..., Awaitable[Any]] | None = None) -> None:
    """Teach the bridge about one more sync call that blocks.

    Inside a bridged program the call then suspends the program; elsewhere it is unchanged. If the target's module
    has not been imported yet, it is patched when it is. Seams are process-wide; `uninstall()` removes the patches.

    Args:
        target: The sync callable, where it is defined: `"package.module:function"` or
            `"package.module:Class.method"`. A name that another module has imported with `from ... import` escapes.
        awaits: Its async twin, called with the same arguments (a method's with its instance first), on the event
            loop, in the program's task and context. Without one, the call runs in a worker thread.

    Raises:
        SeamError: If the target is malformed, does not exist, is inherited, or has a seam already.

    Example:
        ```python
        import asyncio, sys, types
        from dspy_parallel import add_seam, run

        store = sys.modules["store"] = types.ModuleType("store")
        store.load = lambda key: key.upper()  # imagine that this blocks

        async def aload(key):
            await asyncio.sleep(0)
            return key.upper()

        add_seam("store:load", aload)
        assert asyncio.run(run(lambda: store.load("a"), engine="loop")) == "A"
        ```
    """
    module, separator, path = target.partition(":")
    if not (separator and all(part.isidentifier() for part in (*module.split("."), *path.split(".")))):
        raise SeamError(f"{target!r} is not of the form 'package.module:function' or 'package.module:Class.method'.")
    if awaits is None:
        handler = in_thread("it blocks and has no async twin")
    else:

        def handler(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # wrapt gives a builtin function's module as its instance
            bound = args if instance is None or isinstance(instance, ModuleType) else (instance, *args)
            return await_twin(awaits, original, awaits, bound, kwargs)

    _table.add(Seam(target, handler))
