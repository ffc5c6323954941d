"""What users can tell the scout: `pure` and `ordered`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import dspy
import pydantic

from ..analysis import effect_free, searches
from ..bridge import await_, in_bridge
from ..errors import check_callable
from ..seams.table import Seam, register
from .predictors import place_in
from .request_sharing import HAS_ONE_FUNCTION, joining
from .runtime.snapshot import private_copy
from .session import Call, Current, current

__all__ = ["ordered", "pure"]

T = TypeVar("T")


def pure(target: T, /) -> T:
    """Declare a function, a module or an LM free of effects, so that it may be called ahead of its turn.

    With `overlap=True`, a call of it is made as soon as its inputs are known, and the program takes the result when
    it comes to the call. So its result must depend on its inputs alone. A function that calls a predictor or an LM is
    not pure: what comes after it runs in sequence. Declare a module instead, whose calls are followed. An LM class
    that is declared so answers by the request alone, and not by the order of calls; a Pydantic model has validators
    that may run twice. Outside of overlapped programs nothing changes.

    Args:
        target: A function, a class or instance of `dspy.Module`, or of `dspy.BaseLM` with an `aforward()`; a class of
            Pydantic models.

    Returns:
        The class or instance itself; for a function, one with the same signature.

    Raises:
        DecorationError: If the target cannot be called.

    Example:
        ```python
        from dspy_parallel import pure

        @pure
        def search(query: str) -> list[str]:
            return [f"a page about {query}"]

        assert search("owls") == ["a page about owls"]
        ```
    """
    return cast("T", _declare(target, "pure"))


def ordered(target: T, /) -> T:
    """Declare a function or a module to have a state, so that it is never called ahead of its turn.

    The scout of an overlapped program comes to its end there; what follows is not done before it.

    Args:
        target: A function, or a class or instance of `dspy.Module` or `dspy.BaseLM`.

    Returns:
        The same object.

    Raises:
        DecorationError: If the target cannot be called.

    Example:
        ```python
        import dspy
        from dspy_parallel import ordered

        @ordered
        class Remember(dspy.Module):
            def forward(self, fact):
                return dspy.Prediction(fact=fact)
        ```
    """
    return cast("T", _declare(target, "ordered"))


def _declare(target: Any, what: str) -> Any:
    check_callable(target, what)
    if isinstance(target, type):
        if issubclass(target, dspy.BaseLM) and what == "pure" and not HAS_ONE_FUNCTION and "aforward" in vars(target):
            cls: Any = target
            cls.aforward = joining(cls.aforward)
        elif not issubclass(target, (dspy.Module, dspy.BaseLM, pydantic.BaseModel)) and "__call__" in vars(target):
            asked: Any = target
            asked.__call__ = effect_free.declare(shared(vars(target)["__call__"]), what)
        return effect_free.declare(target, what)
    if isinstance(target, (dspy.Module, dspy.BaseLM)) or what == "ordered":
        return effect_free.declare(target, what)
    return effect_free.declare(shared(target), what)


def shared(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function that takes the scout's result, if the scout was first."""

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        return _call(call, fn, args, kwargs)

    return call


def _call(
    key: Any, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], owner: tuple[Any, ...] = ()
) -> Any:
    """Call a pure function, or take the other side's result."""
    now = current.get()
    if now is None or now.session.is_closed or now.side == "scout" or now.call is not None or not in_bridge():
        return fn(*args, **kwargs)
    given = private_copy(((*owner, *args), kwargs))
    call = now.session.begin(Call("main", key, given, place=place_in(now.session)))
    token = current.set(Current(now.session, "main", call))
    partner = call.partner if call.came_second else None
    try:
        if partner is None or not partner.is_issued:
            result = fn(*args, **kwargs)
        else:
            await_(_ended(partner))
            # If it failed, it fails here in its own place.
            result = (
                private_copy(partner.result) if partner.has_ended and partner.failure is None else fn(*args, **kwargs)
            )
    except BaseException as exc:
        now.session.end(call, failure=exc)
        raise
    finally:
        current.reset(token)
    now.session.end(call, result)
    return result


def _search(original: Callable[..., Any], retriever: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _call(searches.searched, original, args, kwargs, (retriever,))


register(
    *(
        Seam(target, _search, when=lambda: current.get() is not None, layer="overlap")
        for target in ("dspy.retrievers.retrieve:Retrieve.forward", "dspy.dsp.colbertv2:ColBERTv2.__call__")
    )
)


async def _ended(call: Call) -> None:
    while call.task is None and not call.was_cancelled:  # noqa: ASYNC110 - it begins in the next turn of the loop
        await asyncio.sleep(0)
    if call.task is not None:
        await asyncio.wait([call.task])
