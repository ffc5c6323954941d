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
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any, Literal, cast

import wrapt

from ..bridge import in_bridge
from ..errors import SeamError, described
from .async_counterparts import await_counterpart, call_in_worker
from .patches import Patch
from .releases import is_expected, is_initializing, named, unmet

__all__ = [
    "Handler",
    "Seam",
    "add_seam",
    "everywhere",
    "in_thread",
    "install",
    "is_installed",
    "register",
    "rows",
    "seam_of",
    "uninstall",
]

Handler = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""Called as `handler(original, instance, args, kwargs)`; the original is bound to the instance."""


def everywhere() -> bool:
    """`Seam.when` of a row that is not for the bridge alone."""
    return True


Part = Literal["bridge", "recording"]


@dataclass(frozen=True)
class Seam:
    """One row: a sync callable that blocks, and what takes its place inside the bridge.

    Attributes:
        target: `"package.module:name"` or `"package.module:Class.method"`.
        handler: Takes the call's place.
        replacement: Instead of a handler: makes the function that replaces the original for good.
        overrides: Whether definitions of the method in subclasses, present and future, are covered too.
        since: The first release of its package that has the target; of Python, for its own library. Empty: all have it
            that this package supports. Where it is not to be, the row is for nothing; where it is to be and is missing,
            `install()` raises: what we cannot patch, we cannot keep our word about.
        until: The first release that has it no more, or makes no use of it.
        when: Whether the handler takes this call; otherwise the original does.
        layer: Sets apart several rows for one target; later ones wrap the earlier ones.
        part: What it is installed with. Rows of a recording are around all others, whichever came first.
    """

    target: str
    handler: Handler | None = None
    replacement: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    overrides: bool = False
    since: str = ""
    until: str = ""
    when: Callable[[], bool] = in_bridge
    layer: str = ""
    part: Part = "bridge"

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
_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: classes made by a class statement have it."""


def _inside(owner: Any, name: str, passes: Callable[[Seam], bool]) -> tuple[Any, Callable[[Any], None]]:
    """What an attribute holds, inside those of our patches around it that `passes` names; and how to replace it."""
    value: Any = vars(owner).get(name, _MISSING)
    holder, attribute = owner, name
    while isinstance(value, Patch) and passes(value._self_seam):
        holder, attribute = value, "__wrapped__"
        value = value.__wrapped__
    return value, partial(setattr, holder, attribute)


@dataclass
class _Installed:
    """What has been patched of one part of the table."""

    is_wanted: bool = False
    undo: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    keys: set[str] = field(default_factory=set[str])


class _Table:
    """All rows, and what was patched for them.

    Nothing is imported while the lock is held: a thread that imports a module calls `_module_imported` with the
    module's import lock, and would wait for whoever waits for that.
    """

    def __init__(self) -> None:
        self._rows: dict[str, Seam] = {}
        self._parts: dict[Part, _Installed] = {"bridge": _Installed(), "recording": _Installed()}
        self._hooked: set[str] = set()
        self._declared: set[str] = set()
        self._covered: dict[Any, tuple[list[Seam], Callable[[], None]]] = {}
        self._half_imported: list[Seam] = []
        self._lock = threading.RLock()

    def add(self, seam: Seam) -> None:
        with self._lock:
            if seam.key in self._rows:
                raise SeamError(f"There is a seam for {seam.target} already.")
            if self.is_installed(seam.part):
                self._patch_when_imported(seam)
            self._rows[seam.key] = seam

    def rows(self) -> list[Seam]:
        return list(self._rows.values())

    def find(self, target: str) -> Seam | None:
        seam = self._rows.get(f"{target}#")
        is_ours = seam is not None and (target.startswith("dspy.") or target in self._declared)
        return seam if is_ours else None

    def declare(self, seam: Seam) -> None:
        self.add(seam)
        self._declared.add(seam.target)

    def is_installed(self, part: Part = "bridge") -> bool:
        return self._parts[part].is_wanted

    def install(self, part: Part = "bridge") -> None:
        wanted = self._parts[part]
        if wanted.is_wanted and not self._half_imported:
            return
        if not wanted.is_wanted:
            _check(
                [
                    seam
                    for seam in self.rows()
                    if seam.part == part and not is_initializing(sys.modules.get(seam.module))
                ]
            )
        with self._lock:
            late, self._half_imported = self._half_imported, []
            if not wanted.is_wanted:
                late += [seam for seam in self._rows.values() if seam.part == part]
            for seam in late:
                self._patch_when_imported(seam)
            wanted.is_wanted = True

    def uninstall(self, part: Part = "bridge") -> None:
        with self._lock:
            installed, self._parts[part] = self._parts[part], _Installed()
            self._half_imported = [seam for seam in self._half_imported if seam.part != part]
            while installed.undo:
                installed.undo.pop()()
            for base, (seams, uncover) in list(self._covered.items()):
                seams[:] = [seam for seam in seams if seam.part != part]
                if not seams:
                    del self._covered[base]
                    uncover()

    def _patch_when_imported(self, seam: Seam) -> None:
        if not is_expected(seam):
            return
        module = sys.modules.get(seam.module)
        if module is None:
            if seam.module not in self._hooked:
                self._hooked.add(seam.module)
                wrapt.register_post_import_hook(self._module_imported, seam.module)
        elif is_initializing(module):
            # Somebody is importing it now: what we want to patch may not be there yet. (The import hook comes too
            # late for a module that has been found already.) The next run() looks again.
            self._half_imported.append(seam)
        else:
            self._patch(module, seam)

    def _module_imported(self, module: Any) -> None:
        with self._lock:
            self._hooked.discard(module.__name__)  # a hook is called once
            ours = [seam for seam in self._rows.values() if seam.module == module.__name__]
            ours = [seam for seam in ours if self.is_installed(seam.part) and is_expected(seam)]
            try:
                _check(ours)
            except SeamError:
                # Which ends this import; the next one is to end like that, too. A hook for a module that is there is
                # called at once.
                del sys.modules[module.__name__]
                self._hooked.add(module.__name__)
                wrapt.register_post_import_hook(self._module_imported, module.__name__)
                sys.modules[module.__name__] = module
                raise
            for seam in ours:
                self._patch(module, seam)

    def _patch(self, module: Any, seam: Seam) -> None:
        patched = self._parts[seam.part].keys
        if seam.key in patched:
            return
        owner = module
        *path, name = seam.path
        for step in path:
            owner = getattr(owner, step, _MISSING)
        if owner is _MISSING or not hasattr(owner, name):
            raise SeamError(f"{seam.target} does not exist. Check the name, or the version that is installed.")
        if isinstance(owner, type) and name not in vars(owner):
            definer = next(cls for cls in owner.__mro__ if name in vars(cls))
            if definer.__flags__ & _HEAP_TYPE:
                raise SeamError(f"{seam.target} is inherited: name the class that defines it, {definer.__qualname__}.")
            # An extension type, of which nothing can be patched: its subclass gets the method as its own.
            setattr(owner, name, vars(definer)[name])
            self._parts[seam.part].undo.append(partial(delattr, owner, name))
        patched.add(seam.key)
        if seam.replacement is not None:
            self._replace(owner, name, seam, seam.replacement)
        else:
            self._wrap(owner, name, seam)
        if seam.overrides:
            self._cover_subclasses(owner, name, seam)

    def _wrap(self, owner: Any, name: str, seam: Seam) -> None:
        if not _carries(vars(owner)[name], seam):
            value, put = _inside(owner, name, partial(_stays_around, seam))
            if type(value) is Patch and not seam.layer:
                return
            handler = cast("Handler", seam.handler)
            is_method = isinstance(owner, type) and type(value) not in (staticmethod, classmethod)
            patch = Patch(value, _with_instance(handler) if is_method else handler, seam.when)
            patch._self_seam = seam
            put(patch)
        reference = weakref.ref(owner)  # classes come and go; the table must not keep them

        def undo() -> None:
            # What somebody else has put something around is not ours to remove; the next installation finds it.
            owner = reference()
            if owner is not None:
                value, put = _inside(owner, name, lambda other: other is not seam)
                if type(value) is Patch:
                    put(value.__wrapped__)

        self._parts[seam.part].undo.append(undo)

    def _replace(self, owner: Any, name: str, seam: Seam, replacement: Callable[[Any], Any]) -> None:
        before, put = _inside(owner, name, partial(_stays_around, seam))
        ours = replacement(before)
        put(ours)

        def undo() -> None:
            value, put = _inside(owner, name, lambda other: True)
            if value is ours:
                put(before)

        self._parts[seam.part].undo.append(undo)

    def _cover_subclasses(self, base: Any, name: str, seam: Seam) -> None:
        def cover_below(cls: Any) -> None:
            for subclass in cls.__subclasses__():
                self._cover(subclass, seam)
                cover_below(subclass)

        cover_below(base)
        if base in self._covered:
            self._covered[base][0].append(seam)
            return
        seams = [seam]
        theirs = vars(base).get("__init_subclass__")

        def __init_subclass__(cls: type, **kwargs: Any) -> None:
            if theirs is None:
                super(base, cls).__init_subclass__(**kwargs)  # type: ignore[misc]
            else:
                theirs.__get__(None, cls)(**kwargs)
            with self._lock:
                for seam in seams:
                    self._cover(cls, seam)

        ours: Any = classmethod(__init_subclass__)  # type: ignore[arg-type]

        def uncover() -> None:
            if vars(base).get("__init_subclass__") is ours and theirs is None:
                del base.__init_subclass__
            elif vars(base).get("__init_subclass__") is ours:
                base.__init_subclass__ = theirs

        base.__init_subclass__ = ours
        self._covered[base] = seams, uncover

    def _cover(self, cls: type, seam: Seam) -> None:
        if seam.path[-1] in vars(cls):
            self._wrap(cls, seam.path[-1], seam)


def _with_instance(handler: Handler) -> Handler:
    """Find the instance also where a method is taken from its class's `__dict__`, as those who patch it may do."""

    def called(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if instance is None and args:
            instance, original, args = args[0], partial(original, args[0]), args[1:]
        return handler(original, instance, args, kwargs)

    return called


def _check(seams: list[Seam]) -> None:
    """Make sure that all is there that the installed releases are to have.

    Without it, a release that renames a private function takes the effect of `limit()` away, and nobody is told.
    """
    if missing := list(dict.fromkeys(unmet(seams))):
        packages = sorted({named(target.partition(":")[0]) for target in missing})
        raise SeamError(
            f"This version of dspy_parallel does not know {', '.join(packages)}: {', '.join(missing)} is missing "
            "there. Update dspy_parallel, or install an earlier release."
        )


def _stays_around(seam: Seam, other: Seam) -> bool:
    """Whether the other row's patch is to be around this row's; a layer covers a class that has its own row later."""
    return other.part == "recording" != seam.part or (other.layer != "" == seam.layer)


def _carries(value: Any, seam: Seam) -> bool:
    """Whether the row's patch is in the function already."""
    while value is not None:
        if type(value) is Patch and value._self_seam is seam:
            return True
        value = getattr(value, "__wrapped__", None)
    return False


_table = _Table()
rows = _table.rows
install = _table.install
uninstall = _table.uninstall
is_installed = _table.is_installed


def register(*seams: Seam) -> None:
    """Add rows of our own, before the table is installed."""
    for seam in seams:
        _table.add(seam)


def seam_of(function: Any) -> Seam | None:
    """The row of the bridge's that covers a function: one for DSPy's code, or one that `add_seam()` has added."""
    return _table.find(f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}")


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
    is_text = isinstance(target, str)  # pyright: ignore[reportUnnecessaryIsInstance]
    module, separator, path = target.partition(":") if is_text else ("", "", "")
    if awaits is not None and not callable(awaits):
        raise SeamError(f"The async twin of {target!r} is {described(awaits)}, which cannot be called.")
    if not (separator and all(part.isidentifier() for part in (*module.split("."), *path.split(".")))):
        raise SeamError(f"{target!r} is not of the form 'package.module:function' or 'package.module:Class.method'.")
    owner: Any = sys.modules.get(module)
    if owner is not None and not is_initializing(owner):
        # Also where nothing is installed yet: a row that fails then would fail every installation.
        for name in path.split("."):
            owner = getattr(owner, name, _MISSING)
        if owner is _MISSING:
            raise SeamError(f"{target} does not exist. Check the name, or the version that is installed.")
    _table.declare(Seam(target, in_thread("it blocks and has no async twin") if awaits is None else _awaiting(awaits)))


def _awaiting(twin: Callable[..., Awaitable[Any]]) -> Handler:
    def handler(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # wrapt gives a builtin function's module as its instance
        bound = args if instance is None or isinstance(instance, ModuleType) else (instance, *args)
        return await_counterpart(twin, original, twin, bound, kwargs, beside=original)

    return handler
