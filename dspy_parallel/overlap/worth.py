"""Whether a program can gain anything: a look at its source, once per function."""

from __future__ import annotations

import ast
import builtins
import functools
import types
from typing import Any

import dspy

from .facts import facts_of
from .regards import is_known_method
from .sources import ByCode, source_of

__all__ = ["is_worth_it"]

_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.FunctionDef, ast.Lambda)
_looks: ByCode[tuple[int, bool, str]] = ByCode()


def is_worth_it(program: Any) -> bool:
    """Whether it may make more than one LM call, as far as its own source tells."""
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
            return False
        elif isinstance(program, dspy.Module):
            own = vars(program).get("forward")
            owner, program = program, own if own is not None else getattr(type(program), "forward", None)
        else:
            return True
    program = getattr(program, "__overlap_original__", program)
    calls, repeats, name = _look(program)
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
        calls = [] if node is None else [call for call in facts_of(node.body).calls if _may_lead_to_lm(call)]
        repeats = node is not None and any(isinstance(part, _LOOPS) for part in ast.walk(node) if part is not node)
        name = calls[0].func.attr if calls and isinstance(calls[0].func, ast.Attribute) else ""
        known = _looks.set(function.__code__, (len(calls), repeats, name))
    return known


def _may_lead_to_lm(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return not hasattr(builtins, call.func.id) or call.func.id in ("map", "super", "filter")
    if isinstance(call.func, ast.Attribute):
        is_of_dspy = isinstance(call.func.value, ast.Name) and call.func.value.id == "dspy"
        return not is_known_method(call.func.attr) and not is_of_dspy
    return True
