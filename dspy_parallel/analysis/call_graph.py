"""Every call that a program makes, also through helpers, with what surrounds it: as `analysis` follows them."""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import functools
import importlib
import importlib.util
import inspect
import multiprocessing.pool
import sqlite3
import sys
import threading
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import dspy

from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Bound, Closure, Instance, Value
from .blockers import Blocker, blocker_of, is_dspys_own
from .harmless_calls import is_harmless_class, is_process_wide
from .held_values import Held
from .managers import LOCKS, ends_of_cancel
from .places import Place, is_library, is_users, package_of, plain_function
from .reach import Arguments, Frame, Reach, TooMuchCodeError
from .reached_attributes import described, is_function
from .reached_code import new_reach
from .trusted_types import unpatched

__all__ = ["Call", "calls_of"]

_FOLLOWED: dict[int, int | str] = {
    **dict.fromkeys(map(id, (map, filter, functools.reduce)), 0),
    **dict.fromkeys(map(id, (sorted, max, min)), "key"),
}
"""Functions that call one of their arguments: which."""
_PUTTING = frozenset(["append", "appendleft", "add", "insert", "extend", "update", "setdefault"])
_MAKERS: dict[str, type] = {
    "_thread.allocate_lock": type(threading.Lock()),
    "threading.RLock": type(threading.RLock()),
    "sqlite3.connect": sqlite3.Connection,
    "_sqlite3.connect": sqlite3.Connection,
    "sqlite3.Connection.cursor": sqlite3.Cursor,
    "sqlite3.Connection.execute": sqlite3.Cursor,
    "_asyncio.get_event_loop": asyncio.BaseEventLoop,
    "_asyncio.get_running_loop": asyncio.BaseEventLoop,
    "asyncio.events.new_event_loop": asyncio.BaseEventLoop,
    "multiprocessing.context.DefaultContext.Pool": multiprocessing.pool.Pool,
    "concurrent.futures.thread.ThreadPoolExecutor.submit": concurrent.futures.Future,
    "concurrent.futures.process.ProcessPoolExecutor.submit": concurrent.futures.Future,
}
"""Functions that make an instance of a class."""
_NOWHERE = Place("", 0)


@dataclass(frozen=True)
class _Circumstances:
    locks: tuple[tuple[str, Place], ...] = ()
    swallowed: tuple[Place, ...] = ()
    through: tuple[Place, ...] = ()
    module: tuple[str, Place] | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """A call somewhere in a program.

    Attributes:
        node: Its syntax tree.
        atom: What is called, as `analysis` knows it.
        text: What is called, as written.
        cls: The class of what is called, or whose method it is, where that is known.
        method: The method; empty for the object itself.
        name: Its qualified name, if it is a function or a class.
        blocker: Why it blocks its thread.
        need: `"thread"` if it depends on its thread, `"process-wide"` if it changes what belongs to the process.
        what: What does, in words.
        place: Its line.
        arguments: What it may be given, by position.
        is_awaited: Whether its result is awaited at once.
        is_of_run: Whether it is a function's own object: neither an attribute's nor a global variable's.
        locks: Locks that are held meanwhile: what is written, and where.
        swallowed: `except:` clauses around the call that swallow a cancel.
        through: The lines that lead here.
        module: On the way, the outermost synchronous call of a module of the user's: what is written, and where.
    """

    node: Any
    atom: Any
    text: str
    cls: type | None = None
    method: str = ""
    name: str = ""
    blocker: Blocker | None = None
    need: str = ""
    what: str = ""
    place: Place = _NOWHERE
    arguments: tuple[Any, ...] = ()
    is_awaited: bool = False
    is_of_run: bool = False
    locks: tuple[tuple[str, Place], ...] = ()
    swallowed: tuple[Place, ...] = ()
    through: tuple[Place, ...] = ()
    module: tuple[str, Place] | None = None


def calls_of(program: Any) -> list[Call]:
    """All calls that a function, or a method of an instance or class, makes, also through helpers that can be read.

    Args:
        program: A function; a bound method; a pair of a function and the class that its first argument is of; or a
            function inside another, as `analysis` knows it.
    """
    survey = new_reach(_Survey)
    given = Arguments(missing=ONLY_DATA)
    nowhere: Any = None
    try:
        if isinstance(program, tuple):
            function, cls = program
            made = survey.instance_of(cls)
            called: Value = frozenset(Bound(survey.holdings.constant(function), each, cls) for each in made)
        elif isinstance(program, Closure):
            called = frozenset([program])
        else:
            given.keywords = survey.annotated(program)
            called = survey.value_of(program, survey.holdings.hold(program))
        survey.call(nowhere, called, given, None, "")
        survey.finish()
    except TooMuchCodeError:
        pass  # what has been found until then is right
    return list(survey.calls())


class _Survey(Reach):
    """Notes what is called where. Of libraries it reads nothing: what their functions do is said by the tables."""

    def __init__(self, evaluate: Any) -> None:
        super().__init__(evaluate)
        self.any_kind = True
        self._sites: dict[Frame, dict[Any, tuple[Call, tuple[Any, ...]]]] = {}
        self._edges: dict[Frame, dict[Any, tuple[Any, str]]] = {}
        self._roots: dict[Frame, None] = {}
        self._parents: dict[Frame, dict[int, ast.AST]] = {}
        self._node: Any = None
        self._atom: Any = None
        self._module = ""

    def instance_of(self, cls: type) -> Value:
        """An instance that somebody has made. Where matters nothing; what its attributes are is known then."""
        nowhere: Any = None
        made = self.call(nowhere, self.constant(cls), Arguments(missing=frozenset([UNKNOWN])), None, "")
        self.finish()
        for known in (self.needs, self.frames, self._sites, self._edges, self._roots):
            known.clear()
        return made

    def annotated(self, program: Any) -> dict[str, Value]:
        """Parameters that are said to be modules, or of libraries' classes."""
        function = plain_function(program)
        found: dict[str, Value] = {}
        for name, hint in (function.__annotations__ if function is not None else {}).items():
            cls: Any = function.__globals__.get(hint) if isinstance(hint, str) and function is not None else hint
            cls = typing.get_args(cls)[0] if typing.get_origin(cls) is typing.Annotated else cls
            if isinstance(cls, type) and name != "return":
                if issubclass(cls, dspy.Module):
                    found[name] = self.instance_of(cls)
                elif _is_of_library(cls):
                    found[name] = self._made(cls)
        return found

    def follows_async(self, frame: Frame | None) -> bool:
        return frame is None or isinstance(frame.node, ast.AsyncFunctionDef)

    def module(self, name: str, package: str | None) -> types.ModuleType | None:
        """One that has been imported, or a library's; to import one of the user's own would run it."""
        try:
            name = importlib.util.resolve_name(name, package)
            if name not in sys.modules:
                spec = importlib.util.find_spec(name.partition(".")[0])
                if spec is not None and (spec.origin in ("built-in", "frozen") or is_library(spec.origin or "")):
                    importlib.import_module(name)
        except Exception:  # whatever its code raises: then it is of no use to the program either
            return None
        return sys.modules.get(name)

    def need(self, frame: Frame | None, node: Any, kind: Any, what: str) -> Value:
        is_import = isinstance(node, (ast.Import, ast.ImportFrom))
        if frame is not None and kind in ("thread", "process-wide") and not is_import:
            site = Call(node, what, ast.unparse(node), need=kind, what=what)
            self._sites.setdefault(frame, {})[id(node), what] = site, ()
        return super().need(frame, node, kind, what)

    def enter(self, caller: Frame | None, line: int, function: Held | Closure, arguments: Arguments) -> Value | None:
        node, module, atom = self._node, self._module, self._atom
        found = super().enter(caller, line, function, arguments)
        frame = self.frames.get(function)
        if frame is not None and caller is None:
            self._roots[frame] = None
        elif frame is not None and caller is not None and (atom is function or not isinstance(function, Closure)):
            self._edges.setdefault(caller, {})[id(node), frame] = node, module
        return found

    def before_call(self, frame: Frame | None, atom: Any, arguments: Arguments, node: Any, text: str) -> Value | None:
        if frame is None:
            return None
        if text == "an argument" or _is_method_of_item(atom, node):
            return ONLY_DATA  # guesses, on the safe side for who decides where a program runs; see `_FOLLOWED`
        if node is not self._node:
            self._module = ""
        self._node, self._atom = node, atom
        sites = self._sites.setdefault(frame, {})
        known = sites.get((id(node), atom))
        site = known[0] if known is not None else self._site(frame, atom, node, text)
        sites[id(node), atom] = site, tuple(arguments.positional)
        if is_process_wide(getattr(atom, "value", None)):
            self.need(frame, node, "process-wide", f"{text} changes what belongs to the whole process")
        if site.name in _MAKERS:
            return self._made(_MAKERS[site.name])
        if site.blocker is not None:
            return ONLY_DATA
        if site.name.endswith((".streamify", ".asyncify")):
            return frozenset([UNKNOWN])  # called, it is awaited
        if atom is DATA:
            self._keep(frame, arguments, node)
        return self._look_into(frame, site, arguments)

    def _made(self, cls: type) -> Value:
        self.seen.add(("made", cls))
        return frozenset([self.instance(cls)])

    def put(self, value: Value) -> None:
        """What is in any container is not what is in this one; see `_keep()`."""

    def _keep(self, frame: Frame, arguments: Arguments, node: Any) -> None:
        """Something is put into a container that has a name, or is an attribute of `self`."""
        function = getattr(node, "func", None)
        if not isinstance(function, ast.Attribute) or function.attr not in _PUTTING:
            return
        owner = function.value
        if isinstance(owner, ast.Name) and owner.id in frame.local:
            self.assign(frame, owner.id, arguments.all)
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name):
            for each in frame.names.get(owner.value.id, ()):
                if isinstance(each, (Held, Instance)):
                    self.grow(self.stored((each.cls, owner.attr)), arguments.all)

    def _site(self, frame: Frame, atom: Any, node: Any, text: str) -> Call:
        cls, method, name = None, "", ""
        value = unpatched(atom.value) if isinstance(atom, Held) else None
        if isinstance(atom, Bound):
            function = getattr(atom.function, "value", None)
            owner = getattr(atom.owner, "value", None)
            cls = None if isinstance(owner, type) else getattr(atom.owner, "cls", None)
            method = str(getattr(function, "__name__", ""))
            name = described(unpatched(function), atom.definer)
        elif isinstance(value, types.MethodType):
            cls, method, name = type(value.__self__), value.__name__, described(value.__func__, type(value.__self__))
        elif isinstance(value, type) or is_function(value):
            name = described(value)
        elif isinstance(atom, (Held, Instance)):
            cls = atom.cls
        elif atom is UNKNOWN and isinstance(node, ast.Call):
            # `client.chat.completions.create`, where `chat` is a property of a library's class
            inner = {id(each) for each in ast.walk(node.func)}
            known = (each for each, _ in self._sites[frame].values() if id(each.node) in inner and each.method)
            name = next((f"{each.name}.{text.rpartition('.')[2]}" for each in known), "")
        if method == "acquire" and not isinstance(node, ast.Call):  # `with`
            method, name = "__enter__", ""
        blocker = blocker_of(cls, method, name, text)
        bound = frame.globals.get(text)
        if blocker is not None and name == "time.sleep" and bound is not None and unpatched(bound) is bound:
            # A name that is bound for good, and not to the seam, is out of its reach.
            instead = "import time; time.sleep(...): a name imported with `from` is not patched"
            blocker = replace(blocker, bridge="left", instead=instead)
        return Call(node, atom, text, cls, method, name, blocker)

    def _look_into(self, frame: Frame, site: Call, arguments: Arguments) -> Value | None:
        atom, node, cls = site.atom, site.node, site.cls
        value = getattr(atom, "value", None)
        owner = atom.owner if isinstance(atom, Bound) else atom
        if id(value) in _FOLLOWED:
            return self._follow(frame, _FOLLOWED[id(value)], arguments, node)
        task = getattr(value, "__dict__", {}).get("func")
        if inspect.iscoroutinefunction(task) and is_users(task):  # under LangGraph's `@task`
            return self.call(frame, self.constant(task), arguments, node, site.text)
        if isinstance(value, type):
            return self._made(value) if _is_of_library(value) else None
        if site.method == "__enter__" and cls is not None and _is_of_library(cls):
            return frozenset([owner])
        if cls is not None and issubclass(cls, dspy.Module):
            if site.method in ("", "__call__") and not is_dspys_own(cls):
                self._module = site.text.removesuffix(".__call__")
                return self._method(frame, owner, cls, "forward", arguments, node)
            if site.method == "acall":
                return self._method(frame, owner, cls, "aforward", arguments, node) or ONLY_DATA
        function: Any = unpatched(getattr(atom.function, "value", None) if isinstance(atom, Bound) else value)
        return self._of_library(frame, function, arguments, node)

    def _follow(self, frame: Frame, which: int | str, arguments: Arguments, node: ast.Call) -> Value:
        """A function calls one of its arguments."""
        if isinstance(which, int):
            given = [(value, arg) for value, arg in zip(arguments.positional, node.args, strict=False)][
                which : which + 1
            ]
        else:
            given = [
                (arguments.keywords.get(which, NOTHING), each.value) for each in node.keywords if each.arg == which
            ]
        found = ONLY_DATA | arguments.all
        for value, arg in given:
            inner = Arguments([], {}, ONLY_DATA | arguments.all)
            found |= self.call(frame, value - ONLY_DATA, inner, node, ast.unparse(arg))
        return found

    def _method(self, frame: Frame, owner: Any, cls: type, name: str, arguments: Arguments, node: Any) -> Value | None:
        """A method of a module of the user's is called in the end."""
        own = self.part_of(owner, name) if isinstance(owner, Held) else None
        if own is not None:
            return self.call(frame, own, arguments, node, name)
        definer, found = self.holdings.of_class(cls, name)
        if definer is None or not is_users(found):
            return None
        return self.call(
            frame, frozenset([Bound(self.holdings.constant(found), owner, definer)]), arguments, node, name
        )

    def _of_library(self, frame: Frame, function: Any, arguments: Arguments, node: Any) -> Value | None:
        """What is under a library's decorator is the user's; all else of libraries' is in the tables, or unknown."""
        if not isinstance(function, types.FunctionType) or is_users(function):
            return None
        if function.__globals__.get("__name__", "").partition(".")[0] == "dspy_parallel":
            return None
        inner: Any = getattr(function, "__wrapped__", None)
        if is_users(inner):
            return self.call(frame, self.constant(inner), arguments, node, inner.__name__)
        is_known = package_of(function) in ("dspy", "pydantic")
        return frozenset([UNKNOWN]) if "site-packages" in function.__code__.co_filename and not is_known else None

    # What was found

    def calls(self) -> Iterator[Call]:
        """Each call, once for each kind of circumstances in which it is reached."""
        seen: set[Any] = set()
        for frame in self._roots:
            yield from self._walk(frame, _Circumstances(), seen)

    def _walk(self, frame: Frame, now: _Circumstances, seen: set[Any]) -> Iterator[Call]:
        key = frame, bool(now.locks), bool(now.swallowed), now.module
        if key in seen:
            return
        seen.add(key)
        for site, arguments in list(self._sites.get(frame, {}).values()):
            here, is_awaited = self._around(frame, site.node, now)
            yield replace(
                site,
                blocker=None if is_awaited else site.blocker,
                place=_place(frame, site.node),
                arguments=arguments,
                is_awaited=is_awaited,
                is_of_run=_is_of_run(frame, site.text),
                **vars(here),
            )
        for (_, callee), (node, module) in list(self._edges.get(frame, {}).items()):
            here, _ = self._around(frame, node, now)
            place = _place(frame, node)
            outermost = here.module or ((module, place) if module else None)
            yield from self._walk(callee, replace(here, through=(*here.through, place), module=outermost), seen)

    def _around(self, frame: Frame, node: Any, now: _Circumstances) -> tuple[_Circumstances, bool]:
        """What surrounds a node in its function, besides what surrounds the function; whether it is awaited."""
        parents = self._parents.get(frame)
        if parents is None:
            pairs = ((id(child), parent) for parent in ast.walk(frame.node) for child in ast.iter_child_nodes(parent))
            parents = self._parents[frame] = dict(pairs)
        locks, swallowed = list(now.locks), list(now.swallowed)
        inner, outer = node, parents.get(id(node))
        is_awaited = isinstance(outer, ast.Await) or (isinstance(outer, ast.AsyncFor) and inner is outer.iter)
        is_awaited |= isinstance(outer, ast.withitem) and isinstance(parents.get(id(outer)), ast.AsyncWith)
        entered = {id(site.node): site for site, _ in self._of_locks(frame, "__enter__")}
        while outer is not None and inner is not frame.node:
            if isinstance(outer, ast.With) and not isinstance(inner, ast.withitem):
                texts = [item.context_expr for item in outer.items if id(item.context_expr) in entered]
                locks += [(ast.unparse(lock), _place(frame, lock)) for lock in texts]
            swallowed += [_place(frame, each) for each in ends_of_cancel(outer, inner)]
            inner, outer = outer, parents.get(id(outer))
        taken: dict[str, Place] = {}
        for site, _ in self._of_locks(frame, "acquire", "release"):
            lock, _, verb = site.text.rpartition(".")
            if _position(site.node) < _position(node):
                taken.pop(lock, None)
                if verb == "acquire":
                    taken[lock] = _place(frame, site.node)
        locks += taken.items()
        return replace(now, locks=tuple(locks), swallowed=tuple(swallowed)), is_awaited

    def _of_locks(self, frame: Frame, *methods: str) -> list[tuple[Call, Any]]:
        known = self._sites.get(frame, {}).values()
        found = [each for each in known if each[0].method in methods and issubclass(each[0].cls or object, LOCKS)]
        return sorted(found, key=lambda each: _position(each[0].node))


def _is_method_of_item(atom: Any, node: Any) -> bool:
    """Whether a method's owner stands for what it may contain, which is not what is called."""
    name = getattr(getattr(node, "func", None), "attr", None)
    return name is not None and isinstance(atom, (Held, Instance)) and hasattr(atom.cls, name)


def _position(node: Any) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _place(frame: Frame, node: Any) -> Place:
    inner: Frame | None = frame
    names: list[str] = []
    while inner is not None and inner.held is None:
        names.insert(0, f"<locals>.{getattr(inner.node, 'name', '<lambda>')}")
        inner = inner.parent
    if inner is not None and inner.held is not None:
        names.insert(0, inner.held.value.__qualname__)
    return Place(frame.filename, getattr(node, "lineno", 1), ".".join(names))


def _is_of_library(cls: type) -> bool:
    """Whether a class is one of which nothing need be known but its name."""
    root = package_of(cls)
    if root in ("builtins", "dspy", "pydantic", "functools") or is_harmless_class(cls):
        return False
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return root in sys.stdlib_module_names or (file is not None and is_library(file))


def _is_of_run(frame: Frame, text: str) -> bool:
    root = text.partition(".")[0].partition("(")[0]
    return root in frame.local and not (frame.node.args.args and root == frame.node.args.args[0].arg == "self")
