"""What can be said about a piece of syntax without running it. Found once per node."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["MADE", "MUTATORS", "Facts", "Item", "facts_of", "parameters_of", "root_of"]

MUTATORS = frozenset(
    [
        *("append", "appendleft", "extend", "extendleft", "insert", "pop", "popleft", "popitem", "remove"),
        *("discard", "clear", "update", "setdefault", "add", "sort", "reverse", "rotate", "subtract"),
        *("difference_update", "intersection_update", "symmetric_difference_update"),
    ]
)
"""Methods of builtin containers that change them."""

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_NOT_UNDERSTOOD = (ast.Delete, ast.ClassDef, ast.YieldFrom, ast.Await, ast.AsyncFor, ast.AsyncWith)
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
        writes: Names of containers that it may change.
        adds: Names that `+=` and its like may change.
        writes_deep: Those of `writes` of which it changes what is in them.
        bindings: What names are bound to, in whatever scope; None among it if that is not known.
        attributes_read: Names of attributes that it reads, of whatever.
        attributes_set: Those that it sets, with the name at the root of each object: `a` in `a.b.c = 1`, or "".
        attributes_assigned: Those of them that it may set to something else than a number or a text that it makes.
        reached: Attributes that are containers which it may change: `a.b` in `a.b.append(1)`.
        exposed: Names that it may use before it binds them.
        contexts: What it enters by `with`; these are not among the calls.
        returns: What it returns.
        yields: Whether it is a part of a generator.
        declared: Names that it declares `global` or `nonlocal`.
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
    writes_deep: set[str] = field(default_factory=set)
    bindings: dict[str, list[ast.AST | None]] = field(default_factory=dict)
    attributes_read: set[str] = field(default_factory=set)
    attributes_set: set[tuple[str, str]] = field(default_factory=set)
    attributes_assigned: set[str] = field(default_factory=set)
    reached: list[ast.Attribute] = field(default_factory=list)
    exposed: set[str] = field(default_factory=set)
    contexts: list[ast.expr] = field(default_factory=list)
    returns: list[ast.expr] = field(default_factory=list)
    yields: bool = False
    declared: set[str] = field(default_factory=set)
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
    _find_bindings(nodes, facts.bindings)
    facts.exposed = _exposed(nodes, set())
    if facts.declared & facts.stores:
        facts.unknown = facts.unknown or "a name of others is assigned"
    return facts


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
            for name, value in _assigned(node) or ():
                if isinstance(node.targets[0], ast.Tuple):
                    seen.update(id(each) for each in node.targets[0].elts)
                    bindings.setdefault(name, []).append(value)
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)):
            bind(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            bind(node.target, node)
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


def _assigned(node: ast.AST) -> list[tuple[str, ast.expr]] | None:
    """The names and values of an assignment of the plainest kind; `a, b = x, y` is two."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, value = node.targets[0], node.value
    elif isinstance(node, ast.AnnAssign) and node.value is not None:
        target, value = node.target, node.value
    else:
        return None
    if isinstance(target, ast.Name):
        return [(target.id, value)]
    if not (isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts)):
        return None
    names = [each.id for each in target.elts if isinstance(each, ast.Name)]
    is_plain = len(names) == len(target.elts) and not any(isinstance(each, ast.Starred) for each in value.elts)
    return list(zip(names, value.elts, strict=True)) if is_plain else None


def _exposed(nodes: Sequence[ast.AST], bound: set[str]) -> set[str]:
    """Names that may be used here before they are bound here: they stand for something from around it.

    Those that are certain to be bound after these nodes are added to `bound`.
    """
    exposed: set[str] = set()
    for node in nodes:
        pairs = _assigned(node)
        ways: list[list[ast.stmt]] = []
        if pairs is not None:
            exposed |= {name for _, value in pairs for name in _loads(value)} - bound
            bound |= {target for target, _ in pairs}
            continue
        if isinstance(node, ast.AugAssign):
            exposed |= _names(node.target) - bound
        if isinstance(node, ast.If):
            ways = [node.body, node.orelse]
        elif isinstance(node, ast.Try):
            ways = [[*node.body, *node.orelse], *(each.body for each in node.handlers)]
        ends: list[set[str]] = []
        for way in ways:
            ends.append(set(bound))
            exposed |= _exposed(way, ends[-1])
            if way and isinstance(way[-1], (ast.Continue, ast.Break, ast.Return, ast.Raise)):
                ends.pop()  # what comes after it is not come to
        for name, part in ast.iter_fields(node):
            parts = part if isinstance(part, list) else [part]
            if ways and name in ("body", "orelse"):
                continue
            if parts and isinstance(parts[0], (ast.stmt, ast.ExceptHandler, ast.match_case)):
                is_turn = isinstance(node, ast.For) and name == "body"
                exposed |= _exposed(parts, bound | (_names(node.target) - _loads(node.target) if is_turn else set()))  # type: ignore[attr-defined]
            else:
                exposed |= {name for each in parts if isinstance(each, ast.AST) for name in _loads(each)} - bound
        bound |= set.intersection(*ends) if ends else set()
    return exposed


def _names(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _loads(node: ast.AST) -> set[str]:
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and not _is_store(name)}


def _is_store(name: ast.Name) -> bool:
    return not isinstance(name.ctx, ast.Load)


MADE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp, ast.Constant, ast.JoinedStr)


def root_of(node: ast.expr) -> str:
    """The name at the root of an expression: `a` in `a.b[0].c()`."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _visit(node: ast.AST, facts: Facts, *, in_loop: bool, hidden: frozenset[str], is_caught: bool = False) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            facts.loads.add(node.id)
        elif node.id not in hidden:
            _bind(facts, node.id, in_loop=in_loop or bool(hidden))
    elif isinstance(node, ast.Attribute):
        if isinstance(node.ctx, ast.Load):
            facts.attributes_read.add(node.attr)
        else:
            facts.attributes_set.add((root_of(node), node.attr))
            facts.attributes_assigned.add(node.attr)
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
        _write(facts, node)
    elif isinstance(node, ast.AugAssign):
        if isinstance(node.target, ast.Name):
            is_number = isinstance(node.value, ast.Constant) and isinstance(node.value.value, (int, float))
            facts.adds |= set() if is_number else {node.target.id}  # to a list it would be in place
        elif isinstance(node.target, ast.Attribute):
            facts.attributes_read.add(node.target.attr)
            facts.reached.append(node.target)
            facts.attributes_set.add((root_of(node.target), node.target.attr))
            _visit(node.value, facts, in_loop=in_loop, hidden=hidden, is_caught=is_caught)
            _visit(node.target.value, facts, in_loop=in_loop, hidden=hidden, is_caught=is_caught)
            return
        facts.loads.add(root_of(node.target))
    elif isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.JoinedStr)):
        before = set(facts.attributes_assigned)
        for target in node.targets:
            _visit(target, facts, in_loop=in_loop, hidden=hidden, is_caught=is_caught)
        facts.attributes_assigned = before
        _visit(node.value, facts, in_loop=in_loop, hidden=hidden, is_caught=is_caught)
        return
    elif isinstance(node, ast.With):
        facts.contexts += [item.context_expr for item in node.items]
    elif isinstance(node, ast.Yield):
        facts.yields = True
    elif isinstance(node, ast.Call):
        if not any(node is each for each in facts.contexts):
            facts.calls.append(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            _write(facts, node.func)
    elif isinstance(node, (ast.Raise, ast.Assert)):
        facts.jumps |= not is_caught
    elif isinstance(node, ast.Return) or (isinstance(node, ast.Break) and not in_loop):
        facts.jumps = True
        facts.returns += [node.value] if isinstance(node, ast.Return) and node.value is not None else []
    elif isinstance(node, ast.Continue) and not in_loop:
        facts.continues = True
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        facts.declared |= set(node.names)
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
        caught = is_caught or (isinstance(node, ast.Try) and child in node.body and _catches_all(node))
        _visit(child, facts, in_loop=in_loop or is_body, hidden=hidden, is_caught=caught)
    if isinstance(node, ast.For):
        facts.rebound |= _names(node.target)


def _write(facts: Facts, node: ast.Attribute | ast.Subscript) -> None:
    """A container is changed: an item is set, or a method is called that changes it."""
    root = root_of(node)
    inner: ast.AST = node.value
    while isinstance(inner, (ast.Subscript, ast.Call)):
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute):
            facts.writes.add("")  # whatever that gives
        inner = inner.func if isinstance(inner, ast.Call) else inner.value
    if isinstance(inner, ast.Attribute):
        facts.reached.append(inner)
        return
    facts.writes.add(root)
    if not isinstance(node.value, ast.Name):
        facts.writes_deep.add(root)


def _catches_all(node: ast.Try) -> bool:
    """Whether what is raised in the body, in so many words, is certain to be caught."""
    caught = {name for handler in node.handlers for name in _caught(handler.type)}
    if caught & {"Exception", "BaseException"}:
        return True
    parts = [part for each in node.body for part in ast.walk(each) if isinstance(part, (ast.Raise, ast.Assert))]
    raised = ["AssertionError" if isinstance(part, ast.Assert) else root_of(part.exc or part) for part in parts]  # type: ignore[arg-type]
    return all(name in caught for name in raised)


def _caught(node: ast.expr | None) -> list[str]:
    if node is None:
        return ["BaseException"]
    return [root_of(each) for each in (node.elts if isinstance(node, ast.Tuple) else [node])]


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
    facts.writes_deep |= inner.writes_deep
    facts.attributes_read |= inner.attributes_read
    facts.attributes_set |= inner.attributes_set
    facts.attributes_assigned |= inner.attributes_assigned
    facts.reached += inner.reached
    facts.contexts += inner.contexts
    facts.unknown = facts.unknown or inner.unknown or ("`yield`" if inner.yields else "")


def _body(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.Lambda):
        yield node.body
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        yield from node.body
