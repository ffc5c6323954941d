"""What was found out so far about the code that a program can reach.

All code that is reached is looked at again and again until nothing new is found. A variable is whatever any of its
assignments makes of it; an attribute is whatever is assigned to it on any instance of the class.
"""

from __future__ import annotations

import ast
import builtins
import sysconfig
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .abstract_values import NOTHING, ONLY_DATA, Closure, Instance, Value
from .def_use import parameters_of
from .harmless_calls import LAZY, Kind, is_data_class
from .held_values import LEAF, MISSING, Held, Holdings
from .source import lambda_of, source_of

__all__ = ["Arguments", "Frame", "Need", "Reach", "has_call"]

MOST_FRAMES = 400
"""How many functions are looked at for one program."""

_LIBRARIES = tuple(
    path for name in ("stdlib", "platstdlib", "purelib", "platlib") if (path := sysconfig.get_path(name))
)


@dataclass(frozen=True)
class Need:
    """Something that a program can reach, and why it needs a thread.

    Attributes:
        kind: `"blocks"`, `"thread"` (it depends on the thread it runs in), `"unread"` (it is not known), or
            `"process-wide"` (it changes what belongs to the whole process: a finding, no reason for a thread).
        what: What it is, and what it does.
        filename: The file of the program's own code from where it is reached.
        line: The line there.
    """

    kind: Kind
    what: str
    filename: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.what} at {self.filename}:{self.line}" if self.filename else self.what


@dataclass
class Arguments:
    """What a function is called with.

    Attributes:
        positional: In order.
        keywords: By name.
        rest: What may be given for any parameter: `*args`, `**kwargs`, or by a function that is not read.
        missing: What is given for parameters that have no default and are not named here.
    """

    positional: list[Value] = field(default_factory=list[Value])
    keywords: dict[str, Value] = field(default_factory=dict[str, Value])
    rest: Value = NOTHING
    missing: Value = NOTHING

    @property
    def all(self) -> Value:
        """All of them."""
        return NOTHING.union(*self.positional, *self.keywords.values(), self.rest)


class Frame:
    """A function that is reached, and what its variables may be."""

    def __init__(self, node: Any, function: Any, caller: Frame | None, line: int) -> None:
        self.node = node
        self.caller, self.caller_line = caller, line
        self.names: dict[str, set[Any]] = {}
        self.returns: set[Any] = set()
        self.comprehensions: dict[int, dict[str, set[Any]]] = {}
        self.scopes: tuple[dict[str, set[Any]], ...] = ()
        self.partials: dict[int, Any] = {}
        self.closures: dict[int, Closure] = {}
        self.looked_at = -1
        self.is_under_way = False
        self.held: Held | None = None
        self.parent: Frame | None = None
        if isinstance(function, Closure):
            self.parent = function.frame
            self.scopes = function.scopes
            code = function.frame
            self.globals, self.filename, self.mangling = code.globals, code.filename, code.mangling
            self.is_library = code.is_library
        else:
            self.held = function
            self.globals = function.value.__globals__
            self.filename = function.value.__code__.co_filename
            self.mangling = ""
            self.is_library = self.filename.startswith(_LIBRARIES)
        self.local, self.declared_global, self.nonlocals = _scope_of(node)


def has_call(cls: type) -> bool:
    """Whether instances of a class can be called."""
    return any("__call__" in vars(base) for base in cls.__mro__)


MOST_STATEMENTS = 20_000
"""How many statements are read for one decision, those that are read again counted again."""


class TooMuchCodeError(Exception):
    """A program reaches more code than is read for a decision."""


class Decided(Exception):
    """It is known where the program runs."""


class Reach:
    """All that a program can reach, as it is found.

    Attributes:
        holdings: What was looked at.
        needs: What needs a thread, in the order in which it was found.
        heap: What may be in any container that is not known by what was put into it.
        stores: What may be in an attribute of any instance of a class, or in a global variable.
    """

    call: Callable[[Frame, Value, Arguments, Any, str], Value]
    """What a call may return."""
    use_type: Callable[[Frame, Any, Any], Value]
    """What a value of a type may be that an LM's reply is turned into."""

    def __init__(self, evaluate: Callable[[Reach, Frame], None]) -> None:
        self.holdings = Holdings()
        self.needs: dict[Need, None] = {}
        self.heap: set[Any] = set()
        self.stores: dict[Any, set[Any]] = {}
        self.settings: dict[str, Any] = {}
        self.frames: dict[Any, Frame] = {}
        self.instances: dict[type, Instance] = {}
        self.seen: set[Any] = set()
        self._version = 0
        self._remembered: dict[Any, tuple[int, Value | None]] = {}
        self._evaluate = evaluate
        self._left = MOST_STATEMENTS
        self.is_decided = False
        """Whether one reason for a thread is enough: then the first one raises `Decided`."""
        self.any_kind = False
        """Whether generators and coroutine functions are read, too."""

    def before_call(self, frame: Frame | None, atom: Any, arguments: Arguments, node: Any, text: str) -> Value | None:
        """What a call may return, if it is not to be looked into; for whoever wants to know of each call."""
        return None

    def follows_async(self, frame: Frame | None) -> bool:
        """Whether the code of a coroutine function counts that is called here. It runs on a loop in any case."""
        return False

    def module(self, name: str, package: str | None) -> types.ModuleType | None:
        """A module, of which it is not known whether it has been imported when the program runs."""
        return None

    def step(self) -> None:
        """One more statement is read; programs that reach whole frameworks are not read to their end."""
        self._left -= 1
        if self._left < 0:
            raise TooMuchCodeError(f"it reaches more than {MOST_STATEMENTS:,} statements")

    def need(self, frame: Frame | None, node: Any, kind: Kind, what: str) -> Value:
        """Note a reason for a thread; returns what is then known of the value."""
        line = getattr(node, "lineno", 0)
        while frame is not None and frame.is_library and frame.caller is not None:
            frame, line = frame.caller, frame.caller_line
        need = Need(kind, what, frame.filename if frame is not None else "", line)
        if need not in self.needs:
            self.needs[need] = None
        if self.is_decided and kind != "process-wide":
            raise Decided
        return ONLY_DATA

    def grow(self, known: set[Any], value: Iterable[Any]) -> None:
        """Something may be this, too."""
        before = len(known)
        known.update(value)
        if len(known) != before:
            self._version += 1

    def put(self, value: Value) -> None:
        """Something is put into a container of which it is not known who else has it."""
        if value is not ONLY_DATA:
            self.grow(self.heap, value)

    def stored(self, key: Any) -> set[Any]:
        """What may be in an attribute or a global variable."""
        return self.stores.setdefault(key, set())

    def instance(self, cls: type) -> Instance:
        """What stands for the instances of a class that the code makes."""
        found = self.instances.get(cls)
        if found is None:
            found = self.instances[cls] = Instance(cls)
            self._version += 1
        return found

    @property
    def anything(self) -> Value:
        """What code may give away that is not read: data, and objects of the classes that are known so far."""
        return ONLY_DATA.union(self.heap, self.instances.values())

    def once(self, key: Any) -> bool:
        """Whether this is asked for the first time."""
        is_new = key not in self.seen
        self.seen.add(key)
        return is_new

    def remembered(self, key: Any, look: Callable[[], Value | None]) -> Value | None:
        """What is found by looking, once until something new is found; what is under way is found later."""
        version, found = self._remembered.get(key, (-1, ONLY_DATA))
        if version != self._version:
            self._remembered[key] = self._version, found
            new = look()
            if new is None:
                found = None
            elif not new <= (found or NOTHING):
                found = new | (found or NOTHING)
                self._version += 1
            self._remembered[key] = self._remembered[key][0], found
        return found

    # What is held

    def value_of(self, value: Any, part: Any) -> Value:
        """What is known of a value that is held."""
        if part is LEAF:
            return ONLY_DATA
        if is_data_class(part.cls):
            return ONLY_DATA | self._contents(part, 0)
        return frozenset([part])

    def _contents(self, box: Held, depth: int) -> Value:
        """What is in a container, and in containers in it."""
        found: set[Any] = set()
        for name in self.holdings.parts_of(box):
            _, part = self.holdings.part(box, name)
            if part is MISSING or part is LEAF:
                continue
            if is_data_class(part.cls) and depth < 20:
                found |= self._contents(part, depth + 1)
            else:
                found.add(part)
        callers = found if box.cls in LAZY else NOTHING
        if isinstance(box.value, dict) and (factory := getattr(box.value, "default_factory", None)) is not None:
            callers = self.constant(factory) - ONLY_DATA
        # Whoever looks for an item may have it made.
        given = Arguments([], {}, ONLY_DATA | found)
        none: Any = None
        return self.call(none, frozenset(callers), given, None, "what makes an item") | found

    def constant(self, value: Any) -> Value:
        """What is known of a value that is found in a class."""
        return self.value_of(value, self.holdings.constant(value))

    def part_of(self, held: Held, name: Any) -> Value | None:
        """What is known of an attribute; None if there is none."""
        value, part = self.holdings.part(held, name)
        return None if part is MISSING else self.value_of(value, part)

    def global_of(self, names: dict[str, Any], name: str) -> Value | None:
        """What is known of a global variable; None if there is none."""
        value, part = self.holdings.of_globals(names, name)
        found = None if part is MISSING else self.value_of(value, part)
        assigned = self.stores.get(("global", id(names), name))
        if assigned:
            return (found or NOTHING) | assigned
        standard = names.get("__builtins__") if names is not builtins.__dict__ else None
        if found is None and standard is not None:
            return self.global_of(standard if isinstance(standard, dict) else vars(standard), name)
        return found

    # Functions

    def look_up(self, frame: Frame, scopes: tuple[dict[str, set[Any]], ...], name: str) -> Value | None:
        """What a name may stand for in a function."""
        for scope in reversed(scopes):
            if name in scope:
                return frozenset(scope[name])
        if name in frame.local:
            return frozenset(frame.names.get(name, ()))
        if name in frame.declared_global:
            return self.global_of(frame.globals, name)
        if frame.parent is not None:
            return self.look_up(frame.parent, frame.scopes, name)
        if frame.held is not None and name in (free := frame.held.value.__code__.co_freevars):
            found = self.part_of(frame.held, free.index(name)) or NOTHING
            return found | self.stores.get(("cell", id(frame.held), name), set())
        return self.global_of(frame.globals, name)

    def assign(self, frame: Frame, name: str, value: Value) -> None:
        """A name is bound to something."""
        owner: Frame | None = frame
        if name in frame.declared_global:
            self.grow(self.stored(("global", id(frame.globals), name)), value)
            return
        if name in frame.nonlocals:
            root, owner = frame, frame.parent
            while owner is not None and name not in owner.local:
                root, owner = owner, owner.parent
            if owner is None:
                self.grow(self.stored(("cell", id(root.held), name)), value)
                return
        self.grow(owner.names.setdefault(name, set()), value)  # type: ignore[union-attr]

    def enter(self, caller: Frame | None, line: int, function: Held | Closure, arguments: Arguments) -> Value | None:
        """What a function returns, whose source can be read; None if it cannot."""
        frame = self.frames.get(function)
        if frame is None:
            source, node = None, getattr(function, "node", None)
            if not isinstance(function, Closure):
                code = function.value.__code__
                source = source_of(function.value, any_kind=self.any_kind)
                node = lambda_of(code) if code.co_name == "<lambda>" else source.node
            if node is None or len(self.frames) >= MOST_FRAMES:
                return None
            frame = self.frames[function] = Frame(node, function, caller, line)
            frame.mangling = source.mangling if source is not None else frame.mangling
        self._bind(frame, function, arguments)
        if frame.looked_at != self._version and not frame.is_under_way:
            self.look_at(frame)
        return frozenset(frame.returns)

    def look_at(self, frame: Frame) -> None:
        """Look at a function, and at all that it calls."""
        frame.is_under_way = True
        try:
            frame.looked_at = self._version
            self._evaluate(self, frame)
        finally:
            frame.is_under_way = False

    def finish(self) -> None:
        """Look at everything until nothing new is found."""
        while stale := [frame for frame in self.frames.values() if frame.looked_at != self._version]:
            for frame in stale:
                self.look_at(frame)

    def _bind(self, frame: Frame, function: Held | Closure, arguments: Arguments) -> None:
        node: ast.arguments = frame.node.args
        named = [each.arg for each in (*node.posonlyargs, *node.args)]
        given = dict[str, Value](zip(named, arguments.positional, strict=False))
        if node.vararg is not None:
            more = ONLY_DATA.union(arguments.rest, *arguments.positional[len(named) :])
            self.grow(frame.names.setdefault(node.vararg.arg, set()), more)
        all_names = {*named, *(each.arg for each in node.kwonlyargs)}
        if node.kwarg is not None:
            others = (value for name, value in arguments.keywords.items() if name not in all_names)
            self.grow(frame.names.setdefault(node.kwarg.arg, set()), ONLY_DATA.union(arguments.rest, *others))
        for name, value in arguments.keywords.items():
            if name in all_names:
                given[name] = value
        defaults = self._defaults(frame, function)
        required = {each.arg for each in (*node.posonlyargs, *node.args)[: len(named) - len(node.defaults)]}
        required |= {each.arg for each, default in zip(node.kwonlyargs, node.kw_defaults) if default is None}  # noqa: B905
        for name in all_names:
            otherwise = (arguments.missing if name in required else defaults) | arguments.rest
            self.grow(frame.names.setdefault(name, set()), given.get(name, otherwise))

    def _defaults(self, frame: Frame, function: Held | Closure) -> Value:
        """What the function's defaults are, all together."""
        if isinstance(function, Closure):
            return frozenset(frame.names.setdefault("<defaults>", set()))
        return self.part_of(function, "__defaults__") or NOTHING


def _scope_of(node: Any) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The names that are local to a function, those that it declares global, and those nonlocal."""
    known = getattr(node, "_reach_scope", None)
    if known is None:
        local, outer, nonlocals = set(parameters_of(node.args)), set[str](), set[str]()
        body = node.body if isinstance(node.body, list) else [node.body]
        for statement in body:
            _collect(statement, local, outer, nonlocals)
        known = node._reach_scope = frozenset(local - outer - nonlocals), frozenset(outer), frozenset(nonlocals)
    return known


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _collect(node: Any, local: set[str], outer: set[str], nonlocals: set[str], *, hidden: bool = False) -> None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)) and not hidden:
        local.add(node.id)
    elif isinstance(node, ast.NamedExpr):
        local.add(node.target.id)  # in a comprehension, too
        _collect(node.value, local, outer, nonlocals, hidden=hidden)
        return
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        local.add(node.name)
        return
    elif isinstance(node, ast.Lambda):
        return
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        local |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        local.add(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        local.add(node.rest)
    elif isinstance(node, ast.Global):
        outer.update(node.names)
    elif isinstance(node, ast.Nonlocal):
        nonlocals.update(node.names)
    for child in ast.iter_child_nodes(node):
        _collect(child, local, outer, nonlocals, hidden=hidden or isinstance(node, _COMPREHENSIONS))
