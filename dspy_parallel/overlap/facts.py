"""What can be said about a piece of syntax without running it. Found once per node."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Facts", "facts_of", "parameters_of"]

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


@dataclass
class Facts:
    """About some statements or an expression.

    Attributes:
        loads: Names that it reads, in whatever scope.
        stores: Names that it assigns in the enclosing function.
        captured: Names that functions defined in it read.
        calls: The calls in it.
        jumps: Whether it can leave the enclosing function or loop: `return`, `break`, `continue`, `raise`.
        continues: Whether it has a `continue` for the loop around it.
        writes: Names of containers that it may change, but for those that it has made.
        adds: Names that `+=` and its like may change.
        digs: Those of `writes` of which it changes what is in them.
        sets_attributes: Whether it may change attributes, or containers that are attributes.
        unknown: What in it is not understood, in words.
    """

    loads: set[str] = field(default_factory=set)
    stores: set[str] = field(default_factory=set)
    captured: set[str] = field(default_factory=set)
    calls: list[ast.Call] = field(default_factory=list)
    jumps: bool = False
    continues: bool = False
    writes: set[str] = field(default_factory=set)
    adds: set[str] = field(default_factory=set)
    digs: set[str] = field(default_factory=set)
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
    made = _made(nodes)
    facts.writes -= made
    facts.adds -= made
    return facts


def _made(nodes: Sequence[ast.AST]) -> set[str]:
    """Names that only ever stand for what was made here: containers, numbers, texts."""
    made: set[str] = set()
    other: set[str] = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            (made if _makes(node.value) else other).add(node.targets[0].id)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            (made if _makes(node.value) else other).add(node.target.id)
        elif isinstance(node, ast.AugAssign):
            pass
        else:
            other |= {name.id for name in ast.iter_child_nodes(node) if isinstance(name, ast.Name) and _is_store(name)}
    return made - other


def _is_store(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


def _makes(value: ast.expr) -> bool:
    made = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Constant, ast.JoinedStr)
    if isinstance(value, ast.Call):
        makers = {
            "list",
            "dict",
            "set",
            "defaultdict",
            "Counter",
            "deque",
            "OrderedDict",
            "sorted",
            "str",
            "int",
            "len",
        }
        name = value.func.id if isinstance(value.func, ast.Name) else getattr(value.func, "attr", "")
        return name in makers
    return isinstance(value, made)


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _visit(node: ast.AST, facts: Facts, *, in_loop: bool, hidden: frozenset[str]) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            facts.loads.add(node.id)
        elif node.id not in hidden:
            facts.stores.add(node.id)
    elif isinstance(node, (ast.Attribute, ast.Subscript)) and not isinstance(node.ctx, ast.Load):
        facts.writes.add(_root(node))
        if not isinstance(node.value, ast.Name):
            facts.digs.add(_root(node))
        facts.sets_attributes |= isinstance(node, ast.Attribute) or isinstance(node.value, ast.Attribute)
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.target, ast.Name):
            facts.adds.add(node.target.id)  # to a list it would be in place
        facts.loads.add(_root(node.target))
    elif isinstance(node, ast.Call):
        facts.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            facts.writes.add(_root(node.func))
            if not isinstance(node.func.value, ast.Name):
                facts.digs.add(_root(node.func))
            facts.sets_attributes |= isinstance(node.func.value, ast.Attribute)
    elif isinstance(node, (ast.Return, ast.Raise)) or (isinstance(node, ast.Break) and not in_loop):
        facts.jumps = True
    elif isinstance(node, ast.Continue) and not in_loop:
        facts.continues = True
    elif isinstance(node, _NOT_UNDERSTOOD):
        facts.unknown = facts.unknown or f"`{type(node).__name__.lower()}`"
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        facts.stores.add(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        facts.stores.add(node.rest)
    elif isinstance(node, ast.ExceptHandler) and node.name:
        facts.stores.add(node.name)
    if isinstance(node, _SCOPES):
        _visit_scope(node, facts)
        return
    if isinstance(node, _COMPREHENSIONS):
        own = {name.id for clause in node.generators for name in ast.walk(clause.target) if isinstance(name, ast.Name)}
        hidden |= own
    for child in ast.iter_child_nodes(node):
        is_body = isinstance(node, (ast.For, ast.While)) and child in node.body
        _visit(child, facts, in_loop=in_loop or is_body, hidden=hidden)


def _visit_scope(node: ast.AST, facts: Facts) -> None:
    """A function defined here: it runs when it is called, but what it does is done from here."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        facts.stores.add(node.name)
    inner = _find(list(_body(node)))
    facts.loads |= inner.loads
    facts.captured |= inner.loads | inner.captured
    facts.calls += inner.calls
    facts.writes |= inner.writes
    facts.adds |= inner.adds
    facts.digs |= inner.digs
    facts.sets_attributes |= inner.sets_attributes
    facts.unknown = facts.unknown or inner.unknown


def _body(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Lambda):
        yield node.body
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from node.body
