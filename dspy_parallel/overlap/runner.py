"""A program's run with a scout ahead, if its source shows that it can gain anything."""

# pyright: reportUnusedImport=false
from __future__ import annotations

import ast
import asyncio
import builtins
import functools
import types
from collections.abc import Callable
from typing import Any

import dspy

from .. import events, programs, seams
from ..analysis.def_use import facts_of
from ..analysis.source import ByCode, source_of
from ..placement import Engine
from . import api, predictors, request_sharing  # noqa: F401 - their seams
from .continuation import Relay
from .interpreter.call_targets import is_known_method
from .prefetcher import Scout
from .session import Current, Session, current

__all__ = ["is_worth_it", "may_lead_to_lm", "run_ahead"]


async def run_ahead(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    engine: Engine,
    watch: Callable[[Session, Scout], None] | None = None,
) -> Any:
    """`programs.start()`, with a scout ahead if there is none yet and it can gain anything."""
    seams.install()
    outer = current.get()
    if (outer is not None and not outer.session.is_closed) or (watch is None and not is_worth_it(fn)):
        return await programs.start(fn, args, kwargs, engine)
    session = Session(asyncio.get_running_loop())
    scout = Scout(session, fn, args, kwargs)
    if watch is not None:
        watch(session, scout)
    tokens = current.set(Current(session, "main", None)), api.enter()
    # The main line goes first. Where it waits for the first time, it is the scout's turn: a program that waits for
    # nothing, or for one thing after the other, loses no time to it.
    ahead = session.loop.call_soon(scout.go)
    relay = Relay(session, scout, _function_of(fn)[1])
    try:
        return await programs.start(fn, args, kwargs, engine)
    finally:
        ahead.cancel()
        if watch is not None and not scout.has_begun:
            scout.go()  # for its reasons: it makes no call any more
        session.close()
        relay.scout.close()
        for reason in scout.reasons if watch is None else ():
            events.stopped(reason.place, reason.text)
        current.reset(tokens[0])
        api.leave(tokens[1])


_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef, ast.Lambda)
_looks: ByCode[tuple[int, bool, str]] = ByCode()


def _function_of(program: Any) -> tuple[Any, Any]:
    """The function that a program is, and the module whose it is; None if that is not known."""
    owner = None
    while not isinstance(program, types.FunctionType):
        if isinstance(program, functools.partial):
            owner = program.args[0] if program.args else owner
            program = program.func
        elif isinstance(program, types.MethodType):
            owner, program = program.__self__, program.__func__
            if isinstance(owner, dspy.Module) and program in (dspy.Module.__call__, dspy.Predict.__call__):
                owner, program = None, owner
        elif isinstance(program, dspy.Predict):
            return program, None
        elif isinstance(program, dspy.Module):
            own = vars(program).get("forward")
            owner, program = program, own if own is not None else getattr(type(program), "forward", None)
        else:
            return owner, None
    return owner, getattr(program, "__overlap_original__", program)


def is_worth_it(program: Any) -> bool:
    """Whether it may make more than one LM call, as far as its own source tells."""
    owner, function = _function_of(program)
    if function is None:
        return not isinstance(owner, dspy.Predict)
    calls, repeats, name = _look(function)
    if calls == 1 and not repeats:
        # The one call may lead to many, unless it is a predictor.
        called = vars(owner).get(name) if isinstance(owner, dspy.Module) else None
        return type(called) not in (dspy.Predict, dspy.ChainOfThought)
    return calls > 0


def _look(function: types.FunctionType) -> tuple[int, bool, str]:
    """How many calls there are that may lead to an LM, whether they may be made again, and the name of one."""
    known = _looks.get(function.__code__)
    if known is None:
        node = source_of(function).node
        calls = [] if node is None else [call for call in facts_of(node.body).calls if may_lead_to_lm(call)]
        repeats = node is not None and any(isinstance(part, _LOOPS) for part in ast.walk(node) if part is not node)
        name = calls[0].func.attr if calls and isinstance(calls[0].func, ast.Attribute) else ""
        known = _looks.set(function.__code__, (len(calls), repeats, name))
    return known


def may_lead_to_lm(call: ast.Call) -> bool:
    """Whether a call may be one of a predictor, or of what calls one."""
    if isinstance(call.func, ast.Name):
        return not hasattr(builtins, call.func.id) or call.func.id in ("map", "super", "filter")
    if isinstance(call.func, ast.Attribute):
        owner = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        # A predictor may be called `self.translate`, as a method of texts is.
        return owner == "self" or (owner != "dspy" and not is_known_method(call.func.attr))
    return True
