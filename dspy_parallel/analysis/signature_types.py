"""The types of a signature's fields, which run code when an LM's reply is turned into them."""

from __future__ import annotations

import ast
import builtins
import re
import typing
from collections.abc import Iterable
from typing import Any

import dspy

from .abstract_values import DATA, NOTHING, ONLY_DATA, Value
from .harmless_calls import is_a
from .held_values import Held, foreign_types
from .reach import Arguments, Frame, Reach
from .trusted_types import is_known

__all__ = ["use_signature", "use_text"]


def use_signature(reach: Reach, frame: Frame, atom: Held, node: Any) -> Value:
    """An LM's reply is turned into values of the types of a signature's output fields."""
    found = ONLY_DATA
    for hint in foreign_types(atom.value):
        found |= reach.use_type(frame, hint, node)
    return found


def use_text(reach: Reach, frame: Frame, arguments: Arguments, node: Any) -> None:
    """A signature is made from a text: the names of types in it are looked up where that is done."""
    given = arguments.positional[0] if arguments.positional else arguments.keywords.get("signature", NOTHING)
    nodes = [*getattr(node, "args", [])[:1], *(k.value for k in getattr(node, "keywords", ()) if k.arg == "signature")]
    if DATA not in given or not nodes:
        return
    parts = list(ast.walk(nodes[0]))
    text = " ".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    names: Iterable[str] = re.findall(r"[^\W\d]\w*", " ".join(_TYPE_OF_FIELD.findall(text)))
    if any(isinstance(part, (ast.Name, ast.Call)) for part in parts):  # it may name any type
        names = [name for name, value in frame.globals.items() if is_a(value, type) and not is_known(value)]
    for name in names:
        if hasattr(builtins, name) or hasattr(typing, name) or vars(dspy).get(name) is not None:
            continue
        for atom in reach.look_up(frame, frame.scopes, name) or ():
            if isinstance(atom, Held) and is_a(atom.value, type):
                reach.put(reach.use_type(frame, atom.value, node))


_TYPE_OF_FIELD = re.compile(r":([^:]*?)(?=,\s*\w+\s*:|->|$)")
