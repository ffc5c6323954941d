"""What an expression's value is, or will be.

Nothing here waits for an LM if it can be helped: an operation on a value that is not there yet gives a value that is
not there yet.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from . import attributes, calls, comprehensions, contents, guesses, purity, regards, streams
from .facts import facts_of
from .frame import Frame, LocalFunction, blockers, reachable
from .inert import stranger
from .strands import Halted, Pending, Strand

__all__ = [
    "attribute",
    "check_plain",
    "evaluate",
    "fork",
    "function",
    "in_place",
    "lift",
    "truth",
]

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
    ast.MatMult: operator.matmul,
}
_IN_PLACE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.iadd,
    ast.BitOr: operator.ior,
    ast.BitAnd: operator.iand,
    ast.Sub: operator.isub,
    ast.BitXor: operator.ixor,
    ast.Mult: operator.imul,
}
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def evaluate(frame: Frame, node: ast.expr) -> Any:
    """The value of an expression, perhaps `Pending`."""
    frame.scout.step()
    if isinstance(node, ast.GeneratorExp):
        raise Halted("a generator is not used up where it is made")
    handler = _HANDLERS.get(type(node))
    if handler is None:
        raise Halted(f"`{type(node).__name__.lower()}` is not understood")
    return handler(frame, node)


def truth(frame: Frame, value: Any) -> bool:
    """Whether a value counts as true; waits for it."""
    value = frame.force(value)
    if not purity.is_plain(type(value)):
        raise Halted(f"whether a {type(value).__qualname__} is true is said by code of your own")
    if type(value) in purity.BOXES:
        frame.strand.touch(value)
    return bool(value)


def check_plain(*values: Any, only_data: bool = False, as_text: bool = False) -> None:
    """Refuse values that run the user's code when one looks into them, see `inert.stranger()`."""
    reason = stranger(*values, only_data=only_data, as_text=as_text)
    if reason:
        raise Halted(reason)


def lift(frame: Frame, what: str, op: Callable[..., Any], *operands: Any, as_text: bool = False) -> Any:
    """Apply an operator, now or when its operands are there."""

    def checked(*values: Any) -> Any:
        check_plain(*values, as_text=as_text)
        return op(*values)

    return frame.lift(what, checked, *operands)


def _name(frame: Frame, node: ast.Name) -> Any:
    return frame.load(node.id)


def _constant(frame: Frame, node: ast.Constant) -> Any:
    return node.value


def _attribute(frame: Frame, node: ast.Attribute) -> Any:
    return attribute(frame, evaluate(frame, node.value), node.attr)


def attribute(frame: Frame, owner: Any, name: str) -> Any:
    """An attribute of something that may be pending."""
    name = frame.unmangled(name)
    if type(owner) is Pending and not owner.done:
        what = f"`.{name}` of {owner.what}"
        return frame.strand.fork(
            lambda strand: attributes.get(frame.at(strand), strand.force(owner), name), what, owner.boxes
        )
    return attributes.get(frame, frame.force(owner), name)


def _subscript(frame: Frame, node: ast.Subscript) -> Any:
    owner = evaluate(frame, node.value)
    key = evaluate(frame, node.slice)

    def get(strand: Strand) -> Any:
        inner = frame.at(strand)
        container, index = strand.force(owner), inner.ready(key)
        return contents.item_of(inner, container, index)

    waits = type(owner) is Pending or blockers(frame.strand, key) or not frame.strand.is_free(owner)
    is_slice = isinstance(node.slice, ast.Slice)  # which makes a list of its own
    return frame.strand.fork(get, "an item", reachable([owner]), finds=not is_slice) if waits else get(frame.strand)


def _slice(frame: Frame, node: ast.Slice) -> Any:
    parts = [None if part is None else evaluate(frame, part) for part in (node.lower, node.upper, node.step)]
    return frame.lift("a slice", slice, *parts)


def _binary(frame: Frame, node: ast.BinOp) -> Any:
    return binary(frame, _BINARY[type(node.op)], evaluate(frame, node.left), evaluate(frame, node.right))


def binary(frame: Frame, op: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The result of a binary operator."""
    left, right = _settled(frame, left), _settled(frame, right)
    joins = type(left) in (list, tuple) and (type(right) is type(left) or op is operator.mul)
    if joins and frame.strand.is_free(left) and frame.strand.is_free(right) and type(right) is not Pending:
        return op(left, right)  # looks at no item
    return lift(frame, "an expression", op, left, right)


def in_place(frame: Frame, kind: type, left: Any, right: Any) -> Any:
    """The result of an augmented assignment's operator."""
    left, right = _settled(frame, left), _settled(frame, right)
    op = _IN_PLACE.get(kind, _BINARY[kind])
    if type(left) in purity.BOXES:

        def change(strand: Strand) -> None:
            inner = frame.at(strand)
            is_extended = type(left) is list and kind is ast.Add
            other = contents.iterate(inner, right) if is_extended else inner.ready(right)
            strand.touch(left, writing=True)
            if not is_extended:
                check_plain(left, other)
            inner.put_into(left, other)
            op(left, other)

        frame.strand.fork(change, "an augmented assignment", reachable([left, right]), [left])
        return left
    if type(left) is Pending and left.boxes:
        return in_place(frame, kind, frame.force(left), right)
    return binary(frame, _BINARY[kind], left, right)


def _settled(frame: Frame, value: Any) -> Any:
    return frame.force(value) if type(value) is Pending and value.done else value


def _unary(frame: Frame, node: ast.UnaryOp) -> Any:
    return lift(frame, "an expression", _UNARY[type(node.op)], evaluate(frame, node.operand))


def _compare(frame: Frame, node: ast.Compare) -> Any:
    if len(node.ops) == 1:
        is_in = isinstance(node.ops[0], (ast.In, ast.NotIn))
        left = evaluate(frame, node.left)
        right = (streams.whole if is_in else evaluate)(frame, node.comparators[0])
        op = _COMPARE[type(node.ops[0])]
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            if type(_settled(frame, left)) is not Pending and type(_settled(frame, right)) is not Pending:
                return op(_settled(frame, left), _settled(frame, right))
            return frame.lift("a comparison", op, left, right)
        return lift(frame, "a comparison", op, left, right)

    def chain(inner: Frame) -> Any:
        left = inner.ready(evaluate(inner, node.left))
        result: Any = True
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = inner.ready(evaluate(inner, comparator))
            check_plain(left, right)
            result = _COMPARE[type(op)](left, right)
            if not result:
                break
            left = right
        return result

    return fork(frame, node, chain, "a comparison")


def fork(frame: Frame, node: ast.AST, work: Callable[[Frame], Any], what: str) -> Any:
    """Work on an expression in a strand of its own, if nothing that comes after it can depend on that."""
    facts = facts_of(node)
    regard = regards.of(frame, facts)
    if facts.stores or regard.is_opaque:
        return work(frame)
    values = frame.values_of(facts.loads)
    if not regard.may_call and not any(blockers(frame.strand, value) for value in values):
        return work(frame)
    regard.settle(frame, values)
    reads = reachable(values)
    return frame.strand.fork(lambda strand: work(frame.at(strand)), what, reads, regard.writes(reads))


def _bool(frame: Frame, node: ast.BoolOp) -> Any:
    wants = isinstance(node.op, ast.Or)

    def work(inner: Frame) -> Any:
        value: Any = None
        for index, operand in enumerate(node.values):
            value = evaluate(inner, operand)
            if index == len(node.values) - 1:
                break
            branch = guesses.explore(inner, [node.values[index + 1]] if blockers(inner.strand, value) else [])
            is_decided = truth(inner, value) is wants
            branch.decide(None if is_decided else 0)
            if is_decided:
                break
        return value

    return fork(frame, node, work, "a condition")


def _if(frame: Frame, node: ast.IfExp) -> Any:
    def work(inner: Frame) -> Any:
        test = evaluate(inner, node.test)
        sides = ([node.body], [node.orelse]) if blockers(inner.strand, test) else ()
        branch = guesses.explore(inner, *sides)
        is_true = truth(inner, test)
        branch.decide(0 if is_true else 1)
        return evaluate(inner, node.body if is_true else node.orelse)

    return fork(frame, node, work, "a conditional expression")


def _items(frame: Frame, nodes: list[ast.expr]) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            found += contents.iterate(frame, streams.whole(frame, node.value))
        else:
            found.append(evaluate(frame, node))
    return found


def _list(frame: Frame, node: ast.List) -> Any:
    return _items(frame, node.elts)


def _tuple(frame: Frame, node: ast.Tuple) -> Any:
    return tuple(_items(frame, node.elts))


def _set(frame: Frame, node: ast.Set) -> Any:
    return lift(frame, "a set", lambda *items: frame.scout.outside.made_set(items), *_items(frame, node.elts))


def _dict(frame: Frame, node: ast.Dict) -> Any:
    result: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            other = frame.force(evaluate(frame, value))
            if type(other) not in purity.BOXES or not isinstance(other, dict):
                raise Halted(f"`**` of a {type(other).__qualname__}")
            frame.strand.touch(other)
            check_plain(*contents.keys_to_compare(other))
            result.update(other)
        else:
            known = frame.ready(evaluate(frame, key))
            check_plain(known)
            result[known] = evaluate(frame, value)
    return result


def _joined(frame: Frame, node: ast.JoinedStr) -> Any:
    parts = [evaluate(frame, part) for part in node.values]
    return lift(frame, "an f-string", lambda *texts: "".join(texts), *parts)


def _formatted(frame: Frame, node: ast.FormattedValue) -> Any:
    value = evaluate(frame, node.value)
    spec = "" if node.format_spec is None else evaluate(frame, node.format_spec)
    convert: Any = {ord("s"): str, ord("r"): repr, ord("a"): ascii}.get(node.conversion, lambda value: value)
    return lift(frame, "an f-string", lambda value, spec: format(convert(value), spec), value, spec, as_text=True)


def _walrus(frame: Frame, node: ast.NamedExpr) -> Any:
    value = evaluate(frame, node.value)
    frame.store(node.target.id, value)
    return value


def _lambda(frame: Frame, node: ast.Lambda) -> Any:
    return function(frame, node)


def function(frame: Frame, node: ast.Lambda | ast.FunctionDef) -> LocalFunction:
    """The function that a lambda or a `def` makes."""
    arguments = node.args
    defaults = tuple(evaluate(frame, default) for default in arguments.defaults)
    named = {
        argument.arg: evaluate(frame, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    return LocalFunction(node, frame, defaults, named)


def _comprehension(frame: Frame, node: Any) -> Any:
    return comprehensions.evaluate(frame, node)


def _call(frame: Frame, node: ast.Call) -> Any:
    return calls.call(frame, node)


_HANDLERS: dict[type, Callable[[Frame, Any], Any]] = {
    ast.Name: _name,
    ast.Constant: _constant,
    ast.Attribute: _attribute,
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.IfExp: _if,
    ast.List: _list,
    ast.Tuple: _tuple,
    ast.Set: _set,
    ast.Dict: _dict,
    ast.JoinedStr: _joined,
    ast.FormattedValue: _formatted,
    ast.NamedExpr: _walrus,
    ast.Lambda: _lambda,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.DictComp: _comprehension,
    ast.Call: _call,
}
