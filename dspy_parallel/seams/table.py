"""The table of calls that block a thread, and how each is patched and restored.

A row names one sync callable by where it is *defined*, because a call through a subclass or an alias of the
class finds it there. Patches are wrapt function wrappers that cost an attribute check outside the bridge. Only
classes and modules are patched, never instances: DSPy deep-copies and pickles those.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, cast

import wrapt

from ..bridge import in_bridge
from ..errors import SeamError
from .patches import Patch
from .twins import await_twin, call_in_worker

__all__ = ["Handler", "Seam", "add_seam", "everywhere", "in_thread", "install", "register", "uninstall"]

Handler = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called as `handler(original, instance, args, kwargs)`; the original is bound to the instance."""


def everywhere() -> bool:
    """`Seam.when` of a row that is not for the bridge alone."""
    return True


@dataclass(frozen=True)
class Seam:
    """One row: a sync callable that blocks, and what takes its place inside the bridge.

    Attributes:
        target: `"package.module:name"` or `"package.module:Class.method"`.
        handler: Takes the call's place.
        replacement: Instead of a handler: makes the function that replaces the original for good.
        overrides: Whether definitions of the method in subclasses, present and future, are covered too.
        optional: Whether the target is missing in some supported versions.
        when: Whether the handler takes this call; otherwise the original does.
        layer: Sets apart several rows for one target; later ones wrap the earlier ones.
    """

    target: str
    handler: Handler | None = None
    replacement: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    overrides: bool = False
    optional: bool = False
    when: Callable[[], bool] = in_bridge
    layer: str = ""

    @property
    def key(self) -> str:
        """What there is one row for."""
        return f"{self.target}#{self.layer}"

    @property
    def module(self) -> str:
        """The module that has to be imported first."""
        return self.target.partition(":")[0]

    @property
    def path(self) -> list[str]:
        """The names that lead from the module to the callable."""
        return self.target.partition(":")[2].split(".")


_MISSING = object()


def _is_initializing(module: ModuleType) -> bool:
    return bool(getattr(getattr(module, "__spec__", None), "_initializing", False))


class _Table:
    """All rows, and what was patched for them.

    Nothing is imported while the lock is held: a thread that imports a module calls `_module_imported` with the
    module's import lock, and would wait for whoever waits for that.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Seam] = {}
        self._undo: list[Callable[[], None]] = []
        self._hooked: set[str] = set()
        self._patched: set[str] = set()
        self._half_imported: list[Seam] = []
        self._installed = False
        self._lock = threading.RLock()

    def add(self, seam: Seam) -> None:
        with self._lock:
            if seam.key in self._rows:
                raise SeamError(f"There is a seam for {seam.target} already.")
            if self._installed:
                self._patch_when_imported(seam)
            self._rows[seam.key] = seam

    def install(self) -> None:
        if self._installed and not self._half_imported:
            return
        with self._lock:
            if not self._installed:
                for seam in self._rows.values():
                    self._patch_when_imported(seam)
                self._installed = True
            elif self._half_imported:
                late, self._half_imported = self._half_imported, []
                for seam in late:
                    self._patch_when_imported(seam)

    def uninstall(self) -> None:
        with self._lock:
            self._installed = False
            self._half_imported.clear()
            while self._undo:
                self._undo.pop()()
            self._patched.clear()

    def _patch_when_imported(self, seam: Seam) -> None:
        module = sys.modules.get(seam.module)
        if module is None:
            if seam.module not in self._hooked:
                self._hooked.add(seam.module)
                wrapt.register_post_import_hook(self._module_imported, seam.module)
        elif _is_initializing(module):
            # Somebody is importing it now: what we want to patch may not be there yet. (The import hook comes too
            # late for a module that has been found already.) The next run() looks again.
            self._half_imported.append(seam)
        else:
            self._patch(module, seam)

    def _module_imported(self, module: Any) -> None:
        with self._lock:
            self._hooked.discard(module.__name__)  # a hook is called once
            if self._installed:
                for seam in self._rows.values():
                    if seam.module == module.__name__:
                        self._patch(module, seam)

    def _patch(self, module: Any, seam: Seam) -> None:
        if seam.key in self._patched:
            return
        owner = module
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
        if seam.replacement is not None:
            self._set(owner, name, seam.replacement(vars(owner)[name]))
        else:
            self._wrap(owner, name, seam)
        if seam.overrides:
            self._cover_subclasses(owner, name, seam)

    def _wrap(self, owner: Any, name: str, seam: Seam) -> None:
        if type(vars(owner)[name]) is Patch and not seam.layer:
            return
        setattr(owner, name, Patch(vars(owner)[name], cast("Handler", seam.handler), seam.when))
        reference = weakref.ref(owner)  # classes come and go; the table must not keep them

        def undo() -> None:
            # What somebody else has put on top of ours is not ours to remove.
            patch = vars(reference()).get(name) if reference() is not None else None
            if type(patch) is Patch:
                setattr(reference(), name, patch.__wrapped__)

        self._undo.append(undo)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        before = vars(owner).get(name, _MISSING)
        setattr(owner, name, value)
        ours = vars(owner)[name]

        def undo() -> None:
            if vars(owner).get(name) is ours:
                if before is _MISSING:
                    delattr(owner, name)
                else:
                    setattr(owner, name, before)

        self._undo.append(undo)

    def _cover_subclasses(self, base: Any, name: str, seam: Seam) -> None:
        def cover(cls: type) -> None:
            with self._lock:
                if name in vars(cls):
                    self._wrap(cls, name, seam)

        def cover_below(cls: Any) -> None:
            for subclass in cls.__subclasses__():
                cover(subclass)
                cover_below(subclass)

        theirs = vars(base).get("__init_subclass__")

        def __init_subclass__(cls: type, **kwargs: Any) -> None:
            if theirs is None:
                super(base, cls).__init_subclass__(**kwargs)  # type: ignore[misc]
            else:
                theirs.__get__(None, cls)(**kwargs)
            cover(cls)

        cover_below(base)
        self._set(base, "__init_subclass__", classmethod(__init_subclass__))  # type: ignore[arg-type]


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
        return call_in_worker(original, args, kwargs, reason)

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
    _table.add(Seam(target, in_thread("it blocks and has no async twin") if awaits is None else _awaiting(awaits)))


def _awaiting(twin: Callable[..., Awaitable[Any]]) -> Handler:
    def handler(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # wrapt gives a builtin function's module as its instance
        bound = args if instance is None or isinstance(instance, ModuleType) else (instance, *args)
        return await_twin(twin, original, twin, bound, kwargs)

    return handler
