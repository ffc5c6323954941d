"""What can be said about a piece of syntax without running it. Found once per node."""

from __future__ import annotations

import ast
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAKERS", "MUTATORS", "Facts", "Item", "facts_of", "parameters_of"]

MUTATORS = frozenset(
    [
        "append",
        "appendleft",
        "extend",
        "extendleft",
        "insert",
        "pop",
        "popleft",
        "popitem",
        "remove",
        "discard",
        "clear",
        "update",
        "setdefault",
        "add",
        "sort",
        "reverse",
        "rotate",
        "subtract",
        "difference_update",
        "intersection_update",
        "symmetric_difference_update",
    ]
)
"""Methods of builtin containers that change them."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_NOT_UNDERSTOOD = (
    *(ast.Global, ast.Nonlocal, ast.Delete, ast.ClassDef),
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith),
)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Item(ast.expr):
    """What a loop's target is bound to: an item of `source`, or what is at a position in such an item."""

    def __init__(self, source: ast.expr, position: int | None) -> None:
        super().__init__()
        self.source = source
        self.position = position


@dataclass
class Facts:
    """About some statements or an expression.

    Attributes:
        loads: Names that it reads, in whatever scope.
        stores: Names that it assigns in the enclosing function.
        rebound: Those of `stores` that it may assign more than once.
        captured: Names that functions defined in it read.
        calls: The calls in it.
        jumps: Whether it can leave the enclosing function or loop: `return`, `break`, `continue`, `raise`, `assert`.
        continues: Whether it has a `continue` for the loop around it.
        writes: Names of containers that it may change, but for those that it has made.
        adds: Names that `+=` and its like may change.
        digs: Those of `writes` of which it changes what is in them.
        others: Names that it binds to something that it has not made.
        bindings: What names of `stores` are bound to; None among it if that is not known.
        makers: Names of what is called to make them.
        sets_attributes: Whether it may change attributes, or containers that are attributes.
        unknown: What in it is not understood, in words.
    """

    loads: set[str] = field(default_factory=set)
    stores: set[str] = field(default_factory=set)
    rebound: set[str] = field(default_factory=set)
    captured: set[str] = field(default_factory=set)
    calls: list[ast.Call] = field(default_factory=list)
    jumps: bool = False
    continues: bool = False
    writes: set[str] = field(default_factory=set)
    adds: set[str] = field(default_factory=set)
    digs: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    bindings: dict[str, list[ast.AST | None]] = field(default_factory=dict)
    makers: set[str] = field(default_factory=set)
    sets_attributes: bool = False
    unknown: str = ""


def facts_of(node: ast.AST | Sequence[ast.stmt]) -> Facts:
    """Facts about a node, or about statements; a list of statements must be one of the tree's own."""
    if isinstance(node, ast.AST):
        known: Facts | None = getattr(node, "_overlap_facts", None)
        if known is None:
            known = node._overlap_facts = _find([node])  # type: ignore[attr-defined]
        return known
    owner = node[0]
    known = getattr(owner, "_overlap_block_facts", None)
    if known is None:
        known = owner._overlap_block_facts = _find(node)  # type: ignore[attr-defined]
    return known


def parameters_of(arguments: ast.arguments) -> list[str]:
    """The names of all parameters."""
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument.arg for argument in (*named, arguments.vararg, arguments.kwarg) if argument is not None]


def _find(nodes: Sequence[ast.AST]) -> Facts:
    facts = Facts()
    for node in nodes:
        _visit(node, facts, in_loop=False, hidden=frozenset())
    made, others = _made(nodes, facts.makers)
    facts.others |= others
    _find_bindings(nodes, facts.bindings)
    made -= others | _exposed(nodes, set())
    facts.writes -= made - facts.digs
    facts.adds -= made
    return facts


def _made(nodes: Sequence[ast.AST], makers: set[str]) -> tuple[set[str], set[str]]:
    """Names that are bound to what was made here (containers, numbers, texts), and those bound to something else."""
    made: set[str] = set()
    other: set[str] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        target = _target(node)
        if target is not None:
            (made if _makes(node.value, makers) else other).add(target)  # type: ignore[attr-defined]
        elif not isinstance(node, ast.AugAssign):
            other |= {name.id for name in ast.iter_child_nodes(node) if isinstance(name, ast.Name) and _is_store(name)}
    return made, other


def _find_bindings(nodes: Sequence[ast.AST], bindings: dict[str, list[ast.AST | None]]) -> None:
    seen: set[int] = set()

    def bind(target: ast.AST, value: ast.AST | None) -> None:
        if isinstance(target, ast.Name):
            seen.add(id(target))
            bindings.setdefault(target.id, []).append(value)

    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                bind(target, node.value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            bind(node.target, node.value)
        elif isinstance(node, (ast.For, ast.comprehension)):
            bind(node.target, Item(node.iter, None))
            if isinstance(node.target, ast.Tuple):
                for position, target in enumerate(node.target.elts):
                    bind(target, Item(node.iter, position))
        elif isinstance(node, (ast.FunctionDef, ast.Lambda)):
            if isinstance(node, ast.FunctionDef):
                bindings.setdefault(node.name, []).append(node)
            for name in parameters_of(node.args):
                bindings.setdefault(name, []).append(None)
        elif isinstance(node, ast.Name) and _is_store(node) and id(node) not in seen:
            bindings.setdefault(node.id, []).append(None)


def _target(node: ast.AST) -> str | None:
    """The name that an assignment of the plainest kind binds."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        target = node.target
    else:
        return None
    return target.id if isinstance(target, ast.Name) else None


def _exposed(nodes: Sequence[ast.AST], bound: set[str]) -> set[str]:
    """Names that may be used here before they are bound here: they stand for something from around it."""
    exposed: set[str] = set()
    bound = set(bound)
    for node in nodes:
        target = _target(node)
        if target is not None:
            exposed |= _names(node.value) - bound  # type: ignore[attr-defined]
            bound.add(target)
            continue
        for _, part in ast.iter_fields(node):
            parts = part if isinstance(part, list) else [part]
            if parts and isinstance(parts[0], (ast.stmt, ast.ExceptHandler, ast.match_case)):
                exposed |= _exposed(parts, bound)
            else:
                exposed |= {name for each in parts if isinstance(each, ast.AST) for name in _names(each)} - bound
    return exposed


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _is_store(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


_MADE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Constant, ast.JoinedStr)
MAKERS: dict[str, Any] = {
    maker.__name__: maker
    for maker in (list, dict, set, sorted, str, int, len, defaultdict, Counter, deque, OrderedDict)
}
"""What gives a new container, number or text, if it goes by that name."""


def _makes(value: ast.expr, makers: set[str]) -> bool:
    if isinstance(value, ast.Call):
        if not isinstance(value.func, ast.Name) or value.func.id not in MAKERS:
            return False
        makers.add(value.func.id)
        return True
    return isinstance(value, _MADE)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _visit(node: ast.AST, facts: Facts, *, in_loop: bool, hidden: frozenset[str]) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            facts.loads.add(node.id)
        elif node.id not in hidden:
            _bind(facts, node.id, in_loop=in_loop or bool(hidden))
    elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        facts.writes.add(_root(node))
        if not isinstance(node.value, ast.Name):
            facts.digs.add(_root(node))
        facts.sets_attributes |= isinstance(node, ast.Attribute) or isinstance(node.value, ast.Attribute)
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.target, ast.Name):
            is_number = isinstance(node.value, ast.Constant) and isinstance(node.value.value, (int, float))
            facts.adds |= set() if is_number else {node.target.id}  # to a list it would be in place
        facts.loads.add(_root(node.target))
    elif isinstance(node, ast.Call):
        facts.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            facts.writes.add(_root(node.func))
            if not isinstance(node.func.value, ast.Name):
                facts.digs.add(_root(node.func))
            facts.sets_attributes |= isinstance(node.func.value, ast.Attribute)
    elif isinstance(node, (ast.Return, ast.Raise, ast.Assert)) or (isinstance(node, ast.Break) and not in_loop):
        facts.jumps = True
    elif isinstance(node, ast.Continue) and not in_loop:
        facts.continues = True
    elif isinstance(node, _NOT_UNDERSTOOD):
        facts.unknown = facts.unknown or f"`{type(node).__name__.lower()}`"
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        _bind(facts, node.name, in_loop=in_loop)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        _bind(facts, node.rest, in_loop=in_loop)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        _bind(facts, node.name, in_loop=True)  # and unbound again
    if isinstance(node, _SCOPES):
        _visit_scope(node, facts, in_loop=in_loop)
        return
    if isinstance(node, _COMPREHENSIONS):
        own = {name.id for clause in node.generators for name in ast.walk(clause.target) if isinstance(name, ast.Name)}
        hidden |= own
    for child in ast.iter_child_nodes(node):
        is_body = isinstance(node, (ast.For, ast.While)) and child in node.body
        _visit(child, facts, in_loop=in_loop or is_body, hidden=hidden)
    if isinstance(node, ast.For):
        facts.rebound |= _names(node.target)


def _bind(facts: Facts, name: str, *, in_loop: bool = False) -> None:
    if in_loop or name in facts.stores:
        facts.rebound.add(name)
    facts.stores.add(name)


def _visit_scope(node: ast.AST, facts: Facts, *, in_loop: bool) -> None:
    """A function defined here: it runs when it is called, but what it does is done from here."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        _bind(facts, node.name, in_loop=in_loop)
    inner = _find(list(_body(node)))
    facts.loads |= inner.loads
    facts.captured |= inner.loads | inner.captured
    facts.calls += inner.calls
    facts.writes |= inner.writes
    facts.adds |= inner.adds
    facts.digs |= inner.digs
    facts.others |= inner.others
    facts.makers |= inner.makers
    facts.sets_attributes |= inner.sets_attributes
    facts.unknown = facts.unknown or inner.unknown


def _body(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Lambda):
        yield node.body
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from node.body
