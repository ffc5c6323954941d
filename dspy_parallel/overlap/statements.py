"""What a statement does to the names and containers of a frame."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

from dspy.dsp.utils.settings import settings

from . import attributes, expressions, guesses, patterns, purity, regards, streams, targets
from .facts import facts_of
from .frame import Frame, Returned, blockers, reachable
from .strands import UNBOUND, Halted, Pending, Strand

__all__ = ["execute", "run_body"]

Outcome = Returned | Literal["break", "continue"] | None


def run_body(frame: Frame, node: ast.FunctionDef | ast.Lambda) -> Any:
    """What a function returns."""
    if isinstance(node, ast.Lambda):
        return expressions.evaluate(frame, node.body)
    outcome = execute(frame, node.body)
    return outcome.value if isinstance(outcome, Returned) else None


def execute(frame: Frame, body: Sequence[ast.stmt], after: Sequence[Any] = ()) -> Outcome:
    """Interpret statements, with others after them; says how they were left."""
    for number, node in enumerate(body):
        frame.line = node.lineno
        frame.strand.place = frame.place
        handler = _HANDLERS.get(type(node))
        if handler is None:
            raise Halted(f"`{type(node).__name__.lower()}` is not understood")
        frame.after = (body[number + 1 :], *after)
        outcome = handler(frame, node)
        if outcome is not None:
            return outcome
    return None


def region(frame: Frame, node: ast.AST | Sequence[ast.stmt], work: Callable[[Frame], Outcome], what: str) -> Outcome:
    """Do something in a strand of its own, if nothing that comes after it can depend on how it is left.

    The names that it assigns are pending until it is done.
    """
    facts = facts_of(node)
    if facts.jumps or (isinstance(node, ast.AST) and facts.continues) or facts.captured & facts.stores:
        return work(frame)
    regard = regards.of(frame, facts)
    if regard.is_opaque:
        return work(frame)
    if not regard.may_call and not any(blockers(frame.strand, value) for value in frame.values_of(facts.loads)):
        return work(frame)
    values = frame.values_of(facts.loads | facts.stores)
    regard.settle(frame, values)
    reads = reachable(values)

    def in_strand(strand: Strand) -> dict[str, Any]:
        inner = frame.at(strand)
        work(inner)
        return {name: inner.names.get(name, UNBOUND) for name in facts.stores}

    result = frame.strand.fork(in_strand, what, reads, regard.writes(reads))
    for name in facts.stores:
        if isinstance(result, Pending):
            frame.names[name] = _name_after(frame, result, name)
        elif result[name] is not UNBOUND:
            frame.names[name] = result[name]
    return None


def _name_after(frame: Frame, result: Pending, name: str) -> Any:
    return frame.strand.fork(lambda strand: strand.force(result)[name], f"`{name}`", result.boxes)


def _expression(frame: Frame, node: ast.Expr) -> Outcome:
    expressions.evaluate(frame, node.value)
    return None


def _assign(frame: Frame, node: ast.Assign) -> Outcome:
    is_unpacked = len(node.targets) == 1 and isinstance(node.targets[0], (ast.Tuple, ast.List))
    value = (streams.whole if is_unpacked else expressions.evaluate)(frame, node.value)
    for target in node.targets:
        targets.assign(frame, target, value)
    return None


def _annotated(frame: Frame, node: ast.AnnAssign) -> Outcome:
    if node.value is not None:
        targets.assign(frame, node.target, expressions.evaluate(frame, node.value))
    return None


def _augmented(frame: Frame, node: ast.AugAssign) -> Outcome:
    target, kind = node.target, type(node.op)
    if isinstance(target, ast.Name):
        before = frame.load(target.id)
        after = expressions.in_place(frame, kind, before, expressions.evaluate(frame, node.value))
        if after is not before:
            frame.store(target.id, after)
    elif isinstance(target, ast.Attribute):
        owner = frame.force(expressions.evaluate(frame, target.value))
        name = frame.unmangled(target.attr)
        before = attributes.get(frame, owner, name)
        after = expressions.in_place(frame, kind, before, expressions.evaluate(frame, node.value))
        attributes.put(frame, owner, name, after)
    else:
        owner = frame.force(expressions.evaluate(frame, target.value))
        key = frame.ready(expressions.evaluate(frame, target.slice))
        if type(owner) not in purity.BOXES:
            raise Halted(f"an item of {type(owner).__name__} is set")
        frame.strand.touch(owner, writing=True)
        owner[key] = expressions.in_place(frame, kind, owner[key], expressions.evaluate(frame, node.value))
        frame.put_into(owner, owner[key])
    return None


def _if(frame: Frame, node: ast.If) -> Outcome:
    after = frame.after
    test = expressions.evaluate(frame, node.test)
    if not blockers(frame.strand, test):
        return execute(frame, node.body if expressions.truth(frame, test) else node.orelse, after)
    following = after if facts_of(node).jumps else ()  # else it does not depend on the branch
    branch = guesses.explore(frame, [node.body, *following], [node.orelse, *following])

    def work(inner: Frame) -> Outcome:
        is_true = expressions.truth(inner, test)
        branch.decide(0 if is_true else 1)
        return execute(inner, node.body if is_true else node.orelse, after)

    return region(frame, node, work, f"the `if` on line {node.lineno}")


def _for(frame: Frame, node: ast.For) -> Outcome:
    def work(inner: Frame) -> Outcome:
        for item in streams.pull(inner, node.iter):
            targets.assign(inner, node.target, item)
            outcome = region(
                inner, node.body, lambda frame: execute(frame, node.body), f"a turn of the loop on line {node.lineno}"
            )
            if isinstance(outcome, Returned):
                return outcome
            if outcome == "break":
                return None
        return execute(inner, node.orelse) if node.orelse else None

    return region(frame, node, work, f"the loop on line {node.lineno}")


def _while(frame: Frame, node: ast.While) -> Outcome:
    def work(inner: Frame) -> Outcome:
        while expressions.truth(inner, expressions.evaluate(inner, node.test)):
            outcome = region(
                inner, node.body, lambda frame: execute(frame, node.body), f"a turn of the loop on line {node.lineno}"
            )
            if isinstance(outcome, Returned):
                return outcome
            if outcome == "break":
                return None
        return execute(inner, node.orelse) if node.orelse else None

    return region(frame, node, work, f"the loop on line {node.lineno}")


def _with(frame: Frame, node: ast.With) -> Outcome:
    before = frame.strand.overrides
    overrides = dict(before)
    for item in node.items:
        made = item.context_expr
        callee = frame.force(expressions.evaluate(frame, made.func)) if isinstance(made, ast.Call) else None
        is_context = getattr(callee, "__func__", None) is type(settings).context
        if not is_context or item.optional_vars is not None or made.args:  # type: ignore[attr-defined]
            raise Halted("this `with` is not understood")
        for keyword in made.keywords:  # type: ignore[attr-defined]
            if keyword.arg is None or keyword.arg not in ("lm", "adapter"):
                raise Halted("this `dspy.context` is not understood")
            overrides[keyword.arg] = frame.ready(expressions.evaluate(frame, keyword.value))
    frame.strand.overrides = overrides
    try:
        return execute(frame, node.body)
    finally:
        frame.strand.overrides = before


def _try(frame: Frame, node: ast.Try) -> Outcome:
    # Should anything fail, the scout has come to its end.
    attempt = frame.scout.attempt(frame.strand) if node.handlers else None
    outcome = execute(frame, node.body)
    if attempt is not None:
        attempt.end = frame.strand.here
    if outcome is None and node.orelse:
        outcome = execute(frame, node.orelse)
    return (execute(frame, node.finalbody) if node.finalbody else None) or outcome


def _match(frame: Frame, node: ast.Match) -> Outcome:
    subject = expressions.evaluate(frame, node.subject)
    is_decided = not blockers(frame.strand, subject)
    branch = guesses.explore(frame, *([] if is_decided else [[case.body] for case in node.cases]))

    def work(inner: Frame) -> Outcome:
        value = inner.ready(subject)
        chosen = next((number for number, case in enumerate(node.cases) if _fits(inner, case, value)), None)
        branch.decide(chosen)
        return None if chosen is None else execute(inner, node.cases[chosen].body)

    return work(frame) if is_decided else region(frame, node, work, "the `match`")


def _fits(frame: Frame, case: ast.match_case, value: Any) -> bool:
    if not patterns.fits(frame, case.pattern, value):
        return False
    return case.guard is None or expressions.truth(frame, expressions.evaluate(frame, case.guard))


def _return(frame: Frame, node: ast.Return) -> Outcome:
    return Returned(None if node.value is None else expressions.evaluate(frame, node.value))


def _raise(frame: Frame, node: ast.Raise) -> Outcome:
    raise Halted("the program raises here")


def _assert(frame: Frame, node: ast.Assert) -> Outcome:
    if __debug__ and not expressions.truth(frame, expressions.evaluate(frame, node.test)):
        raise Halted("the program raises here")
    return None


def _function(frame: Frame, node: ast.FunctionDef) -> Outcome:
    if node.decorator_list:
        raise Halted("a decorator is not understood")
    frame.store(node.name, expressions.function(frame, node))
    return None


def _import(frame: Frame, node: ast.Import | ast.ImportFrom) -> Outcome:
    for alias in node.names:
        name = alias.name if isinstance(node, ast.Import) else node.module or ""
        module = sys.modules.get(name)
        if module is None or (isinstance(node, ast.ImportFrom) and (node.level or not hasattr(module, alias.name))):
            raise Halted(f"`import {name}` runs code")
        if isinstance(node, ast.ImportFrom):
            frame.store(alias.asname or alias.name, getattr(module, alias.name))
        else:
            frame.store(
                alias.asname or name.partition(".")[0], module if alias.asname else sys.modules[name.partition(".")[0]]
            )
    return None


def _leave(outcome: Literal["break", "continue"]) -> Callable[[Frame, ast.stmt], Outcome]:
    return lambda frame, node: outcome


_HANDLERS: dict[type, Callable[[Frame, Any], Outcome]] = {
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.If: _if,
    ast.For: _for,
    ast.While: _while,
    ast.With: _with,
    ast.Try: _try,
    ast.Match: _match,
    ast.Return: _return,
    ast.Raise: _raise,
    ast.Assert: _assert,
    ast.FunctionDef: _function,
    ast.Import: _import,
    ast.ImportFrom: _import,
    ast.Pass: lambda frame, node: None,
    ast.Break: _leave("break"),
    ast.Continue: _leave("continue"),
}
