"""What an expression's value is, or will be.

Nothing here waits for an LM if it can be helped: an operation on a value that is not there yet gives a value that is
not there yet.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from ...analysis import effect_free
from ..runtime.fibers import Fiber
from ..runtime.snapshot import is_scalar
from ..runtime.thunks import BailOut, Pending
from . import attribute_access, calls, contents, iterators
from .comprehensions import comprehension
from .forks import fork
from .frame import Frame, LocalFunction, blockers, check_plain, reachable

__all__ = ["HANDLERS", "function", "in_place", "item"]

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


def _name(frame: Frame, node: ast.Name) -> Any:
    return frame.load(node.id)


def _constant(frame: Frame, node: ast.Constant) -> Any:
    return node.value


def _attribute(frame: Frame, node: ast.Attribute) -> Any:
    return attribute_access.attribute(frame, frame.evaluate(node.value), node.attr)


def _subscript(frame: Frame, node: ast.Subscript) -> Any:
    return item(frame, frame.evaluate(node.value), frame.evaluate(node.slice))


def item(frame: Frame, owner: Any, key: Any) -> Any:
    """What is in a container under a key, of which either may be pending."""

    def get(fiber: Fiber) -> Any:
        inner = frame.at(fiber)
        container, index = fiber.force(owner), inner.ready(key)
        return contents.item_of(inner, container, index)

    waits = type(owner) is Pending or blockers(frame.fiber, key) or not frame.fiber.is_free(owner)

    return frame.fiber.fork(get, "an item", reachable([owner])) if waits else get(frame.fiber)


def _slice(frame: Frame, node: ast.Slice) -> Any:
    parts = [None if part is None else frame.evaluate(part) for part in (node.lower, node.upper, node.step)]
    return frame.lift("a slice", _plain_slice, *parts)


def _plain_slice(*parts: Any) -> slice:
    check_plain(*parts)  # a slice counts as plain data
    return slice(*parts)


def _binary(frame: Frame, node: ast.BinOp) -> Any:
    return binary(frame, _BINARY[type(node.op)], frame.evaluate(node.left), frame.evaluate(node.right))


def binary(frame: Frame, op: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """The result of a binary operator."""
    left, right = _settled(frame, left), _settled(frame, right)
    joins = type(left) in (list, tuple) and (type(right) is type(left) or (op is operator.mul and is_scalar(right)))
    if joins and frame.fiber.is_free(left) and frame.fiber.is_free(right) and type(right) is not Pending:
        return op(left, right)  # looks at no item
    return frame.operate(
        "an expression", op, left, right, as_text=op is operator.mod, is_plain=is_scalar(left) and is_scalar(right)
    )


def in_place(frame: Frame, kind: type, left: Any, right: Any) -> Any:
    """The result of an augmented assignment's operator."""
    left, right = _settled(frame, left), _settled(frame, right)
    op = _IN_PLACE.get(kind, _BINARY[kind])
    if type(left) in effect_free.BOXES:

        def change(fiber: Fiber) -> None:
            inner = frame.at(fiber)
            is_extended = type(left) is list and kind is ast.Add
            other = contents.iterate(inner, right) if is_extended else inner.ready(right)
            fiber.touch(left, writing=True)
            if not is_extended:
                check_plain(left, other)
            inner.put_into(left, other)
            op(left, other)

        frame.fiber.fork(change, "an augmented assignment", reachable([left, right]), [left])
        return left
    if type(left) is Pending and left.boxes:
        # Perhaps it is a list, which is changed; a reply never is.
        writes = [box for box in reachable([left]) if not _is_reply(box)]
        reads = reachable([left, right])
        return frame.fiber.fork(
            lambda fiber: in_place(frame.at(fiber), kind, fiber.force(left), right),
            "an augmented assignment",
            reads,
            writes,
        )
    return binary(frame, _BINARY[kind], left, right)


def _is_reply(box: Any) -> bool:
    return box.call is not None if type(box) is Pending else type(box) in effect_free.RECORDS


def _settled(frame: Frame, value: Any) -> Any:
    return frame.force(value) if type(value) is Pending and value.done else value


def _unary(frame: Frame, node: ast.UnaryOp) -> Any:
    return frame.operate("an expression", _UNARY[type(node.op)], frame.evaluate(node.operand))


def _compare(frame: Frame, node: ast.Compare) -> Any:
    if len(node.ops) == 1:
        is_in = isinstance(node.ops[0], (ast.In, ast.NotIn))
        left = frame.evaluate(node.left)
        right = (iterators.whole if is_in else Frame.evaluate)(frame, node.comparators[0])
        op = _COMPARE[type(node.ops[0])]
        if isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            if type(_settled(frame, left)) is not Pending and type(_settled(frame, right)) is not Pending:
                return op(_settled(frame, left), _settled(frame, right))
            return frame.lift("a comparison", op, left, right, is_plain=True)
        return frame.operate("a comparison", op, left, right, is_plain=True)

    def chain(inner: Frame) -> Any:
        left = inner.ready(inner.evaluate(node.left))
        result: Any = True
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = inner.ready(inner.evaluate(comparator))
            check_plain(left, right)
            result = _COMPARE[type(op)](left, right)
            if not result:
                break
            left = right
        return result

    return fork(frame, node, chain, "a comparison")


def _bool(frame: Frame, node: ast.BoolOp) -> Any:
    wants = isinstance(node.op, ast.Or)

    def work(inner: Frame) -> Any:
        value: Any = None
        for index, operand in enumerate(node.values):
            value = inner.evaluate(operand)
            if index == len(node.values) - 1:
                break
            if inner.truth(value) is wants:
                break
        return value

    return fork(frame, node, work, "a condition")


def _if(frame: Frame, node: ast.IfExp) -> Any:
    def work(inner: Frame) -> Any:
        return inner.evaluate(node.body if inner.truth(inner.evaluate(node.test)) else node.orelse)

    return fork(frame, node, work, "a conditional expression")


def _items(frame: Frame, nodes: list[ast.expr]) -> list[Any]:
    found: list[Any] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            found += contents.iterate(frame, iterators.whole(frame, node.value))
        else:
            found.append(frame.evaluate(node))
    return found


def _list(frame: Frame, node: ast.List) -> Any:
    return _items(frame, node.elts)


def _tuple(frame: Frame, node: ast.Tuple) -> Any:
    return tuple(_items(frame, node.elts))


def _set(frame: Frame, node: ast.Set) -> Any:
    return frame.operate("a set", lambda *items: frame.interpreter.snapshot.made_set(items), *_items(frame, node.elts))


def _dict(frame: Frame, node: ast.Dict) -> Any:
    result: dict[Any, Any] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            other = frame.force(frame.evaluate(value))
            if type(other) not in effect_free.BOXES or not isinstance(other, dict):
                raise BailOut(f"`**` of a {type(other).__qualname__}")
            frame.fiber.touch(other)
            check_plain(*contents.keys_to_compare(other))
            result.update(other)
        else:
            known = frame.ready(frame.evaluate(key))
            check_plain(known)
            result[known] = frame.evaluate(value)
    return result


def _joined(frame: Frame, node: ast.JoinedStr) -> Any:
    parts = [frame.evaluate(part) for part in node.values]
    return frame.operate("an f-string", lambda *texts: "".join(texts), *parts, is_plain=True)


def _formatted(frame: Frame, node: ast.FormattedValue) -> Any:
    value = frame.evaluate(node.value)
    spec = "" if node.format_spec is None else frame.evaluate(node.format_spec)
    convert: Any = {ord("s"): str, ord("r"): repr, ord("a"): ascii}.get(node.conversion, lambda value: value)
    return frame.operate(
        "an f-string", lambda value, spec: format(convert(value), spec), value, spec, as_text=True, is_plain=True
    )


def _walrus(frame: Frame, node: ast.NamedExpr) -> Any:
    value = frame.evaluate(node.value)
    frame.store(node.target.id, value)
    return value


def _generator(frame: Frame, node: ast.GeneratorExp) -> Any:
    raise BailOut("a generator is not used up where it is made")


def _lambda(frame: Frame, node: ast.Lambda) -> Any:
    return function(frame, node)


def function(frame: Frame, node: ast.Lambda | ast.FunctionDef) -> LocalFunction:
    """The function that a lambda or a `def` makes."""
    arguments = node.args
    defaults = tuple(frame.evaluate(default) for default in arguments.defaults)
    named = {
        argument.arg: frame.evaluate(default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }
    return LocalFunction(node, frame, defaults, named)


def _call(frame: Frame, node: ast.Call) -> Any:
    return calls.call(frame, node)


HANDLERS: dict[type, Callable[[Frame, Any], Any]] = {
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
    ast.GeneratorExp: _generator,
    ast.ListComp: comprehension,
    ast.SetComp: comprehension,
    ast.DictComp: comprehension,
    ast.Call: _call,
    ast.Await: lambda frame, node: calls.awaited(frame, node),
}
