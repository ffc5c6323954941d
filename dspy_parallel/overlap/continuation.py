"""The rest of a program that is past what the scout could not follow, read from the program's own frame.

What opens a file, asks a server or calls what cannot be read is a barrier: the scout ends before it. When that is over,
the program comes to its next predictor call and stands still in it. What it holds then is in its frame, and where it
is, too: another scout begins there. Only as far as that is certain:

- The statement that it is in is begun anew, so what it does before the call must change nothing and be no barrier:
  `x = self.ask(q=stack.pop())` would take off two. And the first call of the new scout must be the one that the
  program is in, or it makes none.
- Behind a block that is left in a way that the frame does not show (`with`, `try`, a loop whose turn is not known), it
  does not go on: after `try: a = self.ask(q=a) ...`, what a handler does would have to be known.
- A loop's turn is known if what the loop goes over has one item that its target is, and nothing in it changes that.
"""

from __future__ import annotations

import ast
import sqlite3
import sys
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dspy
from dspy.dsp.utils.settings import thread_local_overrides

from ..analysis.def_use import MUTATORS, facts_of, parameters_of
from ..analysis.harmless_calls import MAX_ITEMS
from ..analysis.held_values import attributes_of
from ..analysis.source import source_of
from ..analysis.trusted_types import CONTAINERS, SCALARS, VALUES
from .interpreter import effects, iterators, statements
from .interpreter.forks import Completion, region
from .interpreter.frame import Frame, Returned, reachable
from .interpreter.intrinsics import Intrinsic
from .prefetcher import Scout
from .runtime.thunks import BailOut
from .session import PATIENCE, Call, Session

__all__ = ["Relay"]

MAX_IDLE = 3
"""How many scouts in a row may make no call early, until there are no more for this run."""


class Relay:
    """The scouts of one run: where one ends at a barrier, another begins behind it.

    Args:
        session: What they share with the program.
        scout: The first one.
        function: The program's outermost function; None if that is not known.
    """

    def __init__(self, session: Session, scout: Scout, function: types.FunctionType | None) -> None:
        self.scout = scout
        self._session = session
        self._function = function
        self._idle = self._last = 0
        is_read = function is not None and source_of(function).node is not None
        if is_read and _LOCALS.isdisjoint(function.__code__.co_names):  # type: ignore[union-attr]
            session.on_call = self._came_to

    def _came_to(self, call: Call) -> None:
        """The program begins a call, in its own thread."""
        found: Any = None
        frame: types.FrameType | None = sys._getframe(1)
        while frame is not None and self._idle <= MAX_IDLE:
            found = frame if frame.f_code is self._function.__code__ else found  # type: ignore[union-attr]
            frame = frame.f_back
        if found is None:
            return
        lines = self._last, found.f_lineno or 0
        self._last = lines[1]
        if call.partner is not None:
            return
        names = dict(shown := found.f_locals)
        if sys.version_info < (3, 13):
            shown.clear()  # the frame keeps this dictionary, and with it what the program has deleted since
        if not _may_end_unseen(names):
            overrides = thread_local_overrides.get()
            self._session.loop.call_soon_threadsafe(self._go_on, call, lines, names, overrides)

    def _go_on(
        self, call: Call, lines: tuple[int, int], names: dict[str, Any], overrides: Any, turns: int = 2 * PATIENCE
    ) -> None:
        session = self._session
        if session.is_closed or call.has_ended or call.partner is not None:
            return
        if not self.scout.is_stopped:
            if turns:  # it may be about to learn what the program knows already
                session.loop.call_soon(self._go_on, call, lines, names, overrides, turns - 1)
            return
        assert self._function is not None
        rest = _continuation(self._function, names, *lines)
        if rest is None:
            return
        after = self.scout.followed_by(rest, overrides)
        if not session.rejoin(call):
            return  # the program has gone on while its state was read
        mains = [each for each in session.calls if each.side == "main"]
        after.after = mains[mains.index(call) - 1] if mains[0] is not call else None
        self.scout.close()
        self.scout, before = after, len(session.calls)
        after.go()
        self._idle = 0 if any(each.is_issued for each in session.calls[before:]) else self._idle + 1


_LOCALS = frozenset(["locals", "vars", "dir", "eval", "exec"])
"""Before Python 3.13, who looks into a frame changes what these have returned there."""
_KEPT_BY_OTHERS = (dspy.Module, dspy.BaseLM, type, types.FunctionType, types.ModuleType)


def _may_end_unseen(names: dict[str, Any]) -> bool:
    """Whether it would be noticed that a scout keeps these values alive: by `__del__`, `finally` or a weak reference.

    With `lease = pool.get(); ...; del lease; pool.get()`, the program would wait for good.
    """
    todo, seen = list(names.values()), set[int]()
    while todo and len(seen) <= MAX_ITEMS:
        value = todo.pop()
        cls = type(value)
        if cls in SCALARS or cls in VALUES or id(value) in seen or issubclass(cls, _KEPT_BY_OTHERS):
            continue
        seen.add(id(value))
        if weakref.getweakrefcount(value) or (_has_end(cls) and not _is_over(value)):
            return True
        if cls in CONTAINERS:
            todo += (*value, *value.values()) if isinstance(value, dict) else value
        else:
            todo += attributes_of(value).values()
    return bool(todo)


def _has_end(cls: type) -> bool:
    return issubclass(cls, sqlite3.Connection) or any("__del__" in vars(base) for base in cls.__mro__)


def _is_over(value: Any) -> bool:
    """Whether nothing is left that its end would do: a file is closed, a database has nothing to take back."""
    if type(value) is not sqlite3.Connection:
        return type(value).__module__ == "_io" and value.closed
    try:
        return not value.in_transaction
    except sqlite3.ProgrammingError:  # it is closed
        return True


def _continuation(function: types.FunctionType, names: dict[str, Any], last: int, line: int) -> Continuation | None:
    """What a function has yet to do that is in a call on this line; None if that cannot be told.

    The call before it was made on the line `last`: in the same statement, it would be made again.
    """
    node: Any = source_of(function).node
    path = _path_to(node, line)
    whole = facts_of(node.body)
    if not path or not _can_begin(path[-1]) or _is_on(_before_call(path[-1]), last):
        return None
    # Its functions read the variables of the frame itself: what the scout assigns to its own ones they don't see.
    rest = facts_of(node.body[node.body.index(path[0]) :])
    own = whole.stores | set(parameters_of(node.args))
    clauses = [each.target for each in ast.walk(path[-1]) if isinstance(each, ast.comprehension)]
    hidden = {name.id for each in clauses for name in ast.walk(each) if isinstance(name, ast.Name)}
    if whole.captured & rest.stores or hidden & own:  # from Python 3.12 on, the latter are in the same frame
        return None
    known = own.union(function.__code__.co_freevars)
    return Continuation(function, {name: value for name, value in names.items() if name in known}, path)


_FOLLOWED = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Expr, ast.Return, ast.If, ast.While, ast.For)


def _can_begin(node: ast.stmt) -> bool:
    """Whether a statement can be begun anew: all that it evaluates before the call is in one expression."""
    if isinstance(node, ast.For):  # else the turns may go on with evaluating what it goes over
        return isinstance(node.iter, (ast.Name, ast.Attribute, ast.Subscript, ast.List, ast.ListComp))
    is_evaluated_first = isinstance(node, ast.AugAssign) and any(isinstance(e, ast.Call) for e in ast.walk(node.target))
    return isinstance(node, _FOLLOWED) and not is_evaluated_first


def _is_on(node: ast.stmt | ast.expr, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or 0)


def _blocks(node: Any) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        if isinstance(node, (ast.stmt, ast.ExceptHandler)) and getattr(node, name, None):
            yield getattr(node, name)
    for handler in getattr(node, "handlers", ()):
        yield handler.body


def _path_to(node: Any, line: int) -> list[Any]:
    """The statement on a line, after those around it; empty if there are several."""
    inside = [each for block in _blocks(node) for each in block if _is_on(each, line)]
    if len(inside) != 1 or isinstance(inside[0], (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Match)):
        return []
    has_parts = any(True for _ in _blocks(inside[0]))
    below = _path_to(inside[0], line) if has_parts else []
    is_head = has_parts and line < next(_blocks(inside[0]))[0].lineno
    return [inside[0], *below] if below or is_head or not has_parts else []


class Continuation(Intrinsic):
    """What a function has yet to do.

    Args:
        function: The function.
        names: Its variables.
        path: The statement that it is in, after those around it.
    """

    def __init__(self, function: types.FunctionType, names: dict[str, Any], path: list[Any]) -> None:
        self._function = function
        self._names = names
        self._path = path
        self.roots = (function, *names.values())

    def call(self, frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
        names = {name: frame.interpreter.snapshot.adopt(value) for name, value in self._names.items()}
        node: Any = source_of(self._function).node
        inner = Frame(frame.interpreter, frame.fiber, names, function=self._function, node=node, depth=1)
        found = effects.of(inner, facts_of(_before_call(self._path[-1])))
        if found.barrier or found.changes_containers:
            raise BailOut
        completion = _rest_of(inner, node, self._path)
        return completion.value if isinstance(completion, Returned) else None


def _before_call(node: Any) -> Any:
    """What a statement evaluates until it is done with all calls of predictors, before it changes anything itself."""
    if isinstance(node, (ast.If, ast.While, ast.For)):
        return node.iter if isinstance(node, ast.For) else node.test
    value: Any = node.value
    if (type(node), type(value)) != (ast.Expr, ast.Call) or getattr(value.func, "attr", "") not in MUTATORS:
        return value
    known: ast.expr | None = getattr(node, "_overlap_before", None)
    if known is None:
        parts = [value.func.value, *value.args, *(each.value for each in value.keywords)]
        known = node._overlap_before = ast.copy_location(ast.Tuple(parts, ast.Load()), node)
    return known


def _rest_of(frame: Frame, block: Any, path: Sequence[Any]) -> Completion:
    """Interpret what is left of a block."""
    node, *below = path
    body = next(each for each in _blocks(block) if node in each)
    tail = body[body.index(node) :]
    completion: Completion = None
    if not below:
        completion = frame.execute(tail)
        return completion
    if isinstance(node, ast.While):
        completion = _loop(frame, node, below, lambda inner: inner.execute([node]))
    elif isinstance(node, ast.For) and (items := _other_items(frame, node)) is not None:
        completion = _loop(frame, node, below, lambda inner: statements.turns(inner, node, items))
    else:
        completion = _rest_of(frame, node, below)
        if not isinstance(node, ast.If) and not isinstance(completion, Returned):
            raise BailOut
    completion = completion or frame.execute(tail[1:])
    return completion


def _loop(frame: Frame, node: Any, below: Sequence[Any], others: Callable[[Frame], Completion]) -> Completion:
    what = f"the loop on line {node.lineno}"

    def work(inner: Frame) -> Completion:
        tail = node.body[node.body.index(below[0]) :] if below[0] in node.body else []
        if not tail:  # in its `else`
            raise BailOut
        if below[1:]:
            first = _rest_of(inner, node, below)
        else:
            first = region(inner, tail, lambda each: each.execute(tail), what)
        if isinstance(first, Returned) or first == "break":
            return None if first == "break" else first
        return others(inner)

    return region(frame, node, work, what)


def _other_items(frame: Frame, node: ast.For) -> list[Any] | None:
    """What a loop has yet to go over; None if its turn is not known."""
    asked, inside = facts_of(node.iter), facts_of(node)
    targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
    names = [each.id for each in targets if isinstance(each, ast.Name)]
    rebound = facts_of(node.body).stores
    if len(names) != len(targets) or rebound & {*names, *asked.loads} or asked.loads & {*names}:
        return None
    found, looked = effects.of(frame, inside), effects.of(frame, asked)
    if found.barrier or found.writes_outside or looked.may_call or found.attributes_set & asked.attributes_read:
        return None
    parts = [each for each in ast.walk(node.iter) if isinstance(each, (ast.Name, ast.Attribute))]
    gone_over = {id(box) for box in reachable([frame.evaluate(each) for each in parts])}
    if gone_over & {id(box) for box in found.writes(frame, reachable(frame.values_of(inside.loads)))}:
        return None
    items = list(iterators.pull(frame, node.iter, at_once=True))
    current = [frame.names.get(name) for name in names]
    turns = [index for index, item in enumerate(items) if _is_item(item, current, is_one=targets[0] is node.target)]
    return items[turns[0] + 1 :] if len(turns) == 1 else None


def _is_item(item: Any, current: list[Any], *, is_one: bool) -> bool:
    parts = [item] if is_one else item
    if type(parts) not in (list, tuple) or len(parts) != len(current):
        return False
    pairs = zip(parts, current, strict=True)
    return all(a is b or (type(a) is type(b) and type(a) in SCALARS and a == b) for a, b in pairs)
