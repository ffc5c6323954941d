"""Whether reading a reply runs code of the user's: that of the types that a predictor gives.

Both sides read the reply to an early call, so validators run twice. Of those that can be read and have no effects,
nobody can tell; those of others run once, in their turn.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

import pydantic

from . import purity, regards
from .frame import Frame
from .inert import is_known

__all__ = ["why_not"]


def why_not(frame: Frame, signature: Any) -> str | None:
    """Why a predictor with this signature may not be called ahead of its turn; None if it may."""
    for info in signature.output_fields.values():
        for cls in _classes(info.annotation, set()):
            if not _is_harmless(frame, cls):
                return f"making a {cls.__qualname__} from a reply may have effects (declare it @pure)"
    return None


def _classes(hint: Any, seen: set[Any]) -> Iterator[type]:
    """The classes of the user's in a type."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if hint in seen or purity.is_pure_type(hint):
            return
        seen.add(hint)
        yield hint
        if issubclass(hint, pydantic.BaseModel):
            for info in hint.model_fields.values():
                yield from _classes(info.annotation, seen)
    for part in typing.get_args(hint):
        yield from _classes(part, seen)


def _is_harmless(frame: Frame, cls: type) -> bool:
    if purity.declared(cls) == "pure" or is_known(cls):
        return True
    if not issubclass(cls, pydantic.BaseModel):
        # What Pydantic does with others is written in C, or theirs.
        return issubclass(cls, dict) and typing.is_typeddict(cls)
    decorators: Any = cls.__pydantic_decorators__
    validators = [
        each.func
        for kind in ("validators", "field_validators", "root_validators", "model_validators")
        for each in getattr(decorators, kind).values()
    ]
    is_usual = cls.__init__ is pydantic.BaseModel.__init__ and cls.model_post_init is pydantic.BaseModel.model_post_init
    return is_usual and all(_has_no_effects(frame, each) for each in (*validators, *_factories(cls)))


def _factories(cls: type[pydantic.BaseModel]) -> list[Any]:
    found = [info.default_factory for info in cls.model_fields.values() if info.default_factory is not None]
    return [each for each in found if not any(each is known for known in purity.FACTORIES)]


def _has_no_effects(frame: Frame, function: Any) -> bool:
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        return False
    regard = regards.of_function(frame, function)
    return not (regard.is_opaque or regard.may_call or regard.writes_all or regard.written)
