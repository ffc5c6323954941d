"""Predictor calls of either side, and which of them the scout may make.

Both sides read the
reply to an early call, so validators run twice. Of those that can be read and have no effects, nobody can tell.
"""

from __future__ import annotations

import sys
import time
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pydantic
from dspy.dsp.utils.settings import settings

from ..analysis import effect_free
from ..analysis.trusted_types import is_known
from ..seams import cache_keys
from ..seams.table import Seam, register
from .interpreter import effects
from .interpreter.frame import Frame
from .muting import foreign_wrapper
from .request_sharing import joins
from .runtime.snapshot import private_copy
from .runtime.thunks import BailOut
from .session import Call, Current, Session, current

__all__ = ["call_config", "place_in", "state_of", "uses_cache", "why_not", "why_not_reply"]


def call_config(predictor: Any, inputs: dict[str, Any]) -> tuple[Any, ...]:
    """What a request is made of besides its inputs. In the context of the call."""
    adapter = settings.adapter
    lm = inputs.get("lm") or predictor.lm or settings.lm
    return (
        (lm, predictor.signature, type(adapter), dict(getattr(adapter, "__dict__", {}))),
        list(predictor.demos),
        dict(predictor.config),
    )


def state_of(predictor: Any) -> list[Any]:
    """What a request is made of that a program may change."""
    return [predictor.demos, predictor.config, *([] if predictor.lm is None else [vars(predictor.lm).get("kwargs")])]


def why_not(predictor: Any, inputs: dict[str, Any]) -> str | None:
    """Why a predictor may not be called ahead of its turn; None if it may. In the context of the call."""
    if {"forward", "__call__"} & vars(predictor).keys():
        return "its `forward` was replaced"
    if predictor.callbacks:
        return "it has callbacks of its own"
    if settings.send_stream is not None:
        return "its output is streamed"
    adapter = settings.adapter
    if adapter is not None and not str(type(adapter).__module__).startswith("dspy."):
        return f"the adapter {type(adapter).__name__} may have effects"
    if adapter is not None and getattr(adapter, "callbacks", None):
        return "the adapter has callbacks of its own"
    lm = inputs.get("lm") or predictor.lm or settings.lm
    adapters = dspy.ChatAdapter if adapter is None else type(adapter), dspy.JSONAdapter
    reason = _why_not_lm(lm) or foreign_wrapper(type(predictor), *adapters, type(lm))
    if reason:
        return reason
    options = {**getattr(lm, "kwargs", {}), **predictor.config, **(inputs.get("config") or {})}
    if options.get("rollout_id") is not None and not options.get("temperature"):
        return "DSPy is going to warn, once, of a rollout_id without a temperature"
    return None


def uses_cache(predictor: Any, inputs: dict[str, Any]) -> bool:
    """Whether its request is kept in DSPy's cache, and an equal one answered from there. In the context of the call."""
    lm = inputs.get("lm") or predictor.lm or settings.lm
    return isinstance(lm, dspy.LM) and cache_keys.uses_cache(lm, {**predictor.config, **(inputs.get("config") or {})})


def _why_not_lm(lm: Any) -> str | None:
    if not isinstance(lm, dspy.BaseLM):
        return "there is no LM"
    if getattr(lm, "callbacks", None):
        return "the LM has callbacks of its own"
    cls = type(lm)
    if effect_free.declared(lm) == "pure":
        if not joins(cls):
            return f"{cls.__name__} has an `aforward` of its own (declare it @pure, too)"
        return (
            None
            if cls.aforward is not dspy.BaseLM.aforward or cls.forward is dspy.LM.forward
            else "the LM has no `aforward`"
        )
    if effect_free.declared(lm) == "ordered":
        return f"{cls.__name__} is declared @ordered"
    names = ("forward", "aforward", "__call__", "acall")
    if not isinstance(lm, dspy.LM) or any(_definer(cls, name) not in (dspy.LM, dspy.BaseLM) for name in names):
        return f"{cls.__name__} is an LM of your own, which may depend on the order of calls (declare it @pure)"
    if any(_is_redefined(base, name) for base in cls.__mro__ if not is_known(base) for name in vars(base)):
        return f"{cls.__name__} is an LM with properties or methods of your own in place of DSPy's (declare it @pure)"
    if any(name in vars(lm) for name in names) or not isinstance(getattr(lm, "_engine_spec", ""), str):
        return "the LM has an engine of your own, which may depend on the order of calls (declare it @pure)"
    return None


def why_not_reply(frame: Frame, signature: Any) -> str | None:
    """Why a predictor with this signature may not be called ahead of its turn; None if it may."""
    for info in signature.output_fields.values():
        for part in effects.asked_for(info.annotation, set()):
            if not effects.is_made_quietly(frame, part):
                name = getattr(part, "__qualname__", type(part).__qualname__)
                return f"making a {name} from a reply may have effects (declare it @pure)"
    for info in signature.fields.values():
        for cls in _models(info.annotation, set()):
            if effect_free.declared(cls) != "pure" and not all(effects.are_none(frame, each) for each in _hooks(cls)):
                return f"the schema of {cls.__qualname__} is made by code of your own (declare it @pure)"
    return None


def _models(hint: Any, seen: set[Any]) -> Iterator[Any]:
    """The Pydantic models of the user's in a type, whose schema may be shown to the LM."""
    if isinstance(hint, type) and issubclass(hint, pydantic.BaseModel) and hint not in seen and not is_known(hint):
        seen.add(hint)
        yield hint
        for info in hint.model_fields.values():
            yield from _models(info.annotation, seen)
    for part in typing.get_args(hint):
        yield from _models(part, seen)


def _hooks(cls: Any) -> list[Any]:
    """What Pydantic calls when it makes a model's schema."""
    notes = [cls.model_config.get("json_schema_extra"), *(info.json_schema_extra for info in cls.model_fields.values())]
    names = ("__get_pydantic_json_schema__", "__get_pydantic_core_schema__", "model_json_schema")
    own = [vars(base).get(name) for base in cls.__mro__ if not is_known(base) for name in names]
    return [each for each in (*notes, *own) if each is not None and not isinstance(each, dict)]


def _definer(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def _is_redefined(cls: type, name: str) -> bool:
    """Whether DSPy would run code of this class where it looks at its own LM."""
    is_hook = name in ("__getattr__", "__getattribute__", "__eq__", "__setattr__", "__deepcopy__", "__copy__")
    is_of_dspy = name != "__init__" and (hasattr(dspy.LM, name) or hasattr(vars(cls)[name], "__set__"))
    return is_hook or (is_of_dspy and callable(getattr(type(vars(cls)[name]), "__get__", None)))


def _call(original: Callable[..., Any], predictor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call, token = _begin(predictor, args, kwargs)
    if call is None:
        return original(*args, **kwargs)
    try:
        result = original(*args, **kwargs)
    except BaseException as exc:
        call_ended(call, failure=exc)
        raise
    else:
        call_ended(call, result)
        return result
    finally:
        current.reset(token)


def _acall(original: Callable[..., Any], predictor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    async def acall() -> Any:
        call, token = _begin(predictor, args, kwargs)
        if call is None:
            return await original(*args, **kwargs)
        try:
            result = await original(*args, **kwargs)
        except BaseException as exc:
            call_ended(call, failure=exc)
            raise
        else:
            call_ended(call, result)
            return result
        finally:
            current.reset(token)

    return acall()


def _begin(predictor: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Call | None, Any]:
    now = current.get()
    assert now is not None
    if args or now.session.is_closed:
        return None, None
    if now.side == "scout":
        return _begin_inside(now, predictor, kwargs)
    config = call_config(predictor, kwargs)
    call = Call("main", predictor, private_copy(kwargs), config, place=place_in(now.session))
    now.session.begin(call)
    now.session.on_call(call)
    return call, current.set(Current(now.session, "main", call))


def _begin_inside(now: Current, predictor: Any, kwargs: dict[str, Any]) -> tuple[Call | None, Any]:
    """The scout's own call arrives here; in a module that is declared pure, many do."""
    outer = now.call
    assert outer is not None
    if not isinstance(outer.target, dspy.Module):
        _refuse(outer)
    if not outer.is_whole:
        return None, None
    point = (*outer.point, len(now.session.calls))
    config = call_config(predictor, kwargs)
    call = Call("scout", predictor, private_copy(kwargs), config, point, outer.place, is_issued=True, is_made=True)
    now.session.begin(call)
    return call, current.set(Current(now.session, "scout", call))


def _refuse(call: Call) -> None:
    """A function that is declared pure asks an LM: nobody would find the call in trace, history and usage."""
    call.has_diverged = True  # should it catch this
    raise BailOut("a function that is declared @pure calls a predictor or an LM (declare a module instead)")


def _in_pure_function() -> bool:
    now = current.get()
    return (
        now is not None
        and now.side == "scout"
        and now.call is not None
        and not isinstance(now.call.target, dspy.Module)
    )


def _lm_call(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    now = current.get()
    assert now is not None
    assert now.call is not None
    _refuse(now.call)


def place_in(session: Session) -> tuple[str, int] | None:
    """Where the program is, outside of DSPy and this package; None if nobody wants to know."""
    frame: Any = sys._getframe(1) if session.notes_places else None
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_NOT_THE_PROGRAM) and "wrapt" not in file:
            return file, frame.f_lineno
        frame = frame.f_back
    return None


_NOT_THE_PROGRAM = str(Path(__file__).parents[1]), str(Path(str(dspy.__file__)).parent)


def call_ended(call: Call, result: Any = None, failure: BaseException | None = None) -> None:
    """It has a result."""
    now = current.get()
    assert now is not None
    if call.side == "main":
        now.session.end(call, result, failure)
    else:
        call.ended = time.perf_counter()


register(
    Seam("dspy.predict.predict:Predict.__call__", _call, when=lambda: current.get() is not None, layer="overlap"),
    Seam("dspy.clients.base_lm:BaseLM.__call__", _lm_call, overrides=True, when=_in_pure_function, layer="overlap"),
    Seam("dspy.predict.predict:Predict.acall", _acall, when=lambda: current.get() is not None, layer="overlap"),
)
