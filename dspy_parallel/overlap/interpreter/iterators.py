"""Iterators and views: only followed where they are used up on the spot, item by item, as Python does it.

One that is kept may be gone over twice, in part or never, and what it goes over may change until then.
"""

from __future__ import annotations

import ast
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ...analysis import effect_free
from ...analysis.log_listeners import is_stream_known
from ..runtime.thunks import BailOut
from . import bindings, contents
from .comprehensions import comprehension
from .forks import fork
from .frame import Frame, Iterating, check_plain

__all__ = ["pull", "whole"]


def whole(frame: Frame, node: ast.expr) -> Any:
    """The value of an expression for somebody who goes over all of it at once."""
    if isinstance(node, ast.GeneratorExp):
        return comprehension(frame, node)
    if not isinstance(node, ast.Call):
        return frame.evaluate(node)
    made = frame.call(node, used_up=True)
    if type(made) is not Iterating:
        return made
    what = f"`{made.callee.__name__}(...)`"
    return fork(frame, node, lambda inner: list(_items(inner, made.callee, node, at_once=True)), what)


def pull(frame: Frame, node: ast.expr, *, at_once: bool = False) -> Iterator[Any]:
    """The items of an expression's value, which is evaluated now; each item when it is asked for.

    Args:
        frame: Where the expression is.
        node: The expression.
        at_once: Whether all items will be asked for, before anything else is done.
    """
    if isinstance(node, ast.GeneratorExp):
        scope = Frame(frame.interpreter, frame.fiber, {}, outer=frame, is_comprehension=True, depth=frame.depth)
        scope.line = frame.line
        return _turns(scope, node, pull(frame, node.generators[0].iter), 0)
    if not isinstance(node, ast.Call):
        return over(frame, frame.evaluate(node))
    value = frame.call(node, used_up=True)
    if type(value) is Iterating:
        return _items(frame, value.callee, node, at_once=at_once)
    return over(frame, value)


def over(frame: Frame, value: Any) -> Iterator[Any]:
    """The items of a container, which may change meanwhile."""
    value = frame.force(value)
    if type(value) is list:
        index = 0
        while True:
            frame.fiber.touch(value)
            if index >= len(value):
                return
            yield value[index]
            index += 1
    elif isinstance(value, (dict, set, deque)) and type(value) in effect_free.BOXES:
        contents.iterate(frame, value)  # whether that is understood
        yield from _live(frame, value, value.__iter__)
    else:
        yield from contents.iterate(frame, value)


def _live(frame: Frame, box: Any, make: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    frame.fiber.touch(box)
    iterator = make()
    while True:
        frame.fiber.touch(box)
        try:
            item = next(iterator)
        except StopIteration:
            return
        except RuntimeError as exc:
            raise BailOut(str(exc)) from None
        yield item


def _turns(scope: Frame, node: ast.GeneratorExp, items: Iterator[Any], depth: int) -> Iterator[Any]:
    clause = node.generators[depth]
    is_innermost = depth == len(node.generators) - 1
    for item in items:
        bindings.assign(scope, clause.target, item, comprehension=True)
        if not all(scope.truth(scope.evaluate(condition)) for condition in clause.ifs):
            continue
        if is_innermost:
            yield scope.evaluate(node.elt)
        else:
            yield from _turns(scope, node, pull(scope, node.generators[depth + 1].iter), depth + 1)


def _items(frame: Frame, called: Any, node: ast.Call, *, at_once: bool) -> Iterator[Any]:
    """What a call of a builtin that makes an iterator, or of a dict's `items()`, goes over."""
    callee: Any = called
    if any(isinstance(arg, ast.Starred) for arg in node.args) and callee not in (zip, itertools.chain):
        raise BailOut("`*` is not understood here")
    args = node.args
    if callee is map or callee is filter:
        function = frame.force(frame.evaluate(args[0]))
        return _mapped(frame, callee, function, _sources(frame, args[1:], at_once), at_once=at_once)
    if callee is zip:
        sources = _sources(frame, args, at_once=False)
        return zip(*sources, strict=bool(frame.ready(_named(frame, node).get("strict"))))
    if callee is itertools.zip_longest:
        return itertools.zip_longest(*_sources(frame, args, at_once=False), **_named(frame, node))
    if callee in effect_free.ARRANGERS:
        count = len(args) if callee is itertools.product else 1  # what comes behind is a number
        pools: list[Any] = [list(pull(frame, arg, at_once=True)) for arg in args[:count]]
        pools += [frame.ready(frame.evaluate(arg)) for arg in args[count:]]
        named = _named(frame, node)
        check_plain(*pools[count:], *named.values())
        return iter(callee(*pools, **named))
    if callee is itertools.chain:
        return itertools.chain(*_sources(frame, args, at_once))
    if callee is reversed:
        return _reversed(frame, frame.force(frame.evaluate(args[0])))
    if callee.__name__ in effect_free.VIEWS and not args:
        return _live(frame, called.__self__, lambda: iter(called()))
    if callee.__name__ == "finditer" or callee is ast.walk:  # nothing that they go over is changed
        known = [frame.ready(frame.evaluate(arg)) for arg in args]
        return iter(list(callee(*known, **_named(frame, node))))
    if effect_free.is_progress_bar(callee) and 0 < len(args) < 4:
        items = pull(frame, args[0], at_once=at_once)
        for each in (*args[1:], *node.keywords):
            said = frame.evaluate(each.value if isinstance(each, ast.keyword) else each)
            if getattr(each, "arg", "") == "file" and not is_stream_known(said):
                raise BailOut("it is told to something of your own")
        return items
    first = pull(frame, args[0], at_once=at_once and callee is not itertools.islice) if args else iter(())
    rest = [frame.ready(frame.evaluate(arg)) for arg in args[1:]]
    named = _named(frame, node) if callee is enumerate else {}
    check_plain(*rest, *named.values())
    if callee is enumerate:
        return enumerate(first, *rest, **named)
    if callee is itertools.islice:
        return itertools.islice(first, *rest)
    if callee is iter and not rest:
        return first
    if callee.__name__ == "from_iterable":
        return (item for part in first for item in over(frame, part))
    raise BailOut(f"`{callee.__name__}` is not understood here")


def _named(frame: Frame, node: ast.Call) -> dict[str, Any]:
    return {str(each.arg): frame.ready(frame.evaluate(each.value)) for each in node.keywords}


def _sources(frame: Frame, nodes: list[ast.expr], at_once: bool) -> list[Iterator[Any]]:
    sources: list[Iterator[Any]] = []
    for node in nodes:
        if isinstance(node, ast.Starred):
            sources += [over(frame, part) for part in contents.iterate(frame, whole(frame, node.value))]
        else:
            sources.append(pull(frame, node, at_once=at_once))
    return sources


def _mapped(frame: Frame, callee: Any, function: Any, sources: list[Iterator[Any]], *, at_once: bool) -> Iterator[Any]:
    if callee is map:
        return (frame.apply(function, list(items), {}) for items in zip(*sources, strict=False))
    pairs = ((item, item if function is None else frame.apply(function, [item], {})) for item in sources[0])
    # At once: all answers are certain to be asked for.
    return (item for item, answer in (list(pairs) if at_once else pairs) if frame.truth(answer))


def _reversed(frame: Frame, value: Any) -> Iterator[Any]:
    value = frame.force(value)
    if type(value) not in (list, tuple, str, range):
        raise BailOut(f"`reversed` of a {type(value).__qualname__}")
    for index in range(len(value) - 1, -1, -1):
        frame.fiber.touch(value)
        if index < len(value):
            yield value[index]
