"""Where an LM call leaves DSPy for the provider: the point at which requests are shared.

Everything above this point (callbacks, adapters, history, usage, cost) is done by whoever makes the call. So a main
line that takes the scout's reply leaves exactly the marks of one that made the request. The response cache is below:
a reply that the scout paid for is no cache hit for the program, and one that was a hit stays one.

DSPy 3.4 and later have one function for it. Before, it is the LM class's `aforward`, which in some versions accounts
for the usage; what the scout's request accounts for is noted in the shared, and accounted for again by the program.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import dspy
from dspy.dsp.utils.settings import settings
from dspy.utils.usage_tracker import UsageTracker

from .. import events
from ..seams.table import Seam, register
from .muting import heard
from .runtime.thunks import BailOut
from .session import Call, Session, SharedRequest, current, is_same

__all__ = ["HAS_ONE_FUNCTION", "joining", "joins"]

HAS_ONE_FUNCTION = hasattr(dspy, "lm15")


async def _share(request: Any, operation: Callable[[], Awaitable[Any]]) -> Any:
    now = current.get()
    if now is None or now.call is None or now.session.is_closed:
        return await operation()
    call = now.call
    if asyncio.get_running_loop() is not now.session.loop or call.has_diverged:
        return await operation()
    position, call.position = call.position, call.position + 1
    if position < len(call.requests):
        shared = call.requests[position]
        if not _same(shared.request, request):
            call.has_diverged = True
            if call.partner is not None:
                call.partner.has_diverged = True
            return await operation()
        return await _join(now.session, call, shared, operation)
    if call.is_whole:
        raise BailOut("an LM is called without a predictor")
    shared = SharedRequest(request, asyncio.get_running_loop().create_future())
    call.requests.append(shared)
    now.session.moves += call.side == "scout"
    token = current.set(
        now._replace(call=None)
    )  # an `aforward()` that calls its base class's: that is no other request
    try:
        return await _make(call, shared, operation)
    finally:
        current.reset(token)


async def _make(call: Call, shared: SharedRequest, operation: Callable[[], Awaitable[Any]]) -> Any:
    tracker = UsageTracker()
    try:
        if call.side == "main":
            result = await operation()
        else:
            with heard(), settings.context(usage_tracker=tracker):
                result = await operation()
            usage = getattr(result, "usage", None)  # told by the main line, whose span is left out
            tokens = usage.get("total_tokens") if isinstance(usage, dict) else getattr(usage, "total_tokens", None)
            events.note("lm", **({"tokens": tokens} if tokens else {}))
    except BaseException as exc:
        if isinstance(exc, Exception):
            shared.traceback = exc.__traceback__
            shared.result.set_exception(exc)
            shared.result.exception()  # perhaps nobody waits for it: no error then
        else:
            shared.result.cancel()
        raise
    finally:
        shared.usage = {model: list(entries) for model, entries in tracker.usage_data.items()}
    shared.result.set_result(result)
    return result if call.side == "main" else _own_copy(result)


async def _join(session: Session, call: Call, shared: SharedRequest, operation: Callable[[], Awaitable[Any]]) -> Any:
    events.note("lm", joined=True)
    try:
        result = await asyncio.shield(shared.result)  # it belongs to the other side, too
        if call.side == "main":
            await session.before_reply()
    except asyncio.CancelledError:
        if shared.result.cancelled() and call.side == "main":
            call.has_diverged = True  # it was the scout's request that was cancelled, not this one
            events.note("lm", joined=False)
            return await operation()
        raise
    except Exception as exc:
        if call.side == "scout":
            raise BailOut("the main line's request failed") from None
        # Without the frames that it has passed through on the other side.
        raise exc.with_traceback(shared.traceback) from exc.__cause__
    finally:
        if call.side == "main" and settings.usage_tracker is not None:
            for model, entries in shared.usage.items():
                for entry in entries:
                    settings.usage_tracker.add_usage(model, entry)
    return result if call.side == "main" else _own_copy(result)


def _own_copy(result: Any) -> Any:
    """The scout's: what adapters and programs might change in a reply."""
    outputs = getattr(result, "outputs", None)
    if not isinstance(outputs, list):
        return result
    partner = copy.copy(result)
    partner.outputs = copy.deepcopy(outputs)
    return partner


def _same(one: Any, other: Any) -> bool:
    try:
        # A `BestOfN` has copies of its LM, on either side its own.
        return is_same(one[0], other[0]) and bool(one[1:] == other[1:])
    except Exception:
        return False


def _execute(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def aexecute(lm: Any, call: Any) -> Any:
        if current.get() is None:
            return await original(lm, call)
        request = (lm, call.prompt, call.messages, call.legacy, call.request, call.cache, call.n)
        return await _share(request, lambda: original(lm, call))

    return aexecute


def joining(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The `aforward()` of an LM class, for versions before DSPy 3.4."""

    @functools.wraps(original)
    async def aforward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if current.get() is None:
            return await original(self, *args, **kwargs)
        return await _share((self, args, kwargs), lambda: original(self, *args, **kwargs))

    aforward.__overlap_joins__ = True  # type: ignore[attr-defined]
    return aforward


def joins(cls: Any) -> bool:
    """Whether an LM class shares its requests; before DSPy 3.4, an `aforward()` that was never declared does not."""
    return (
        HAS_ONE_FUNCTION
        or cls.aforward in (dspy.BaseLM.aforward, dspy.LM.aforward)
        or hasattr(cls.aforward, "__overlap_joins__")
    )


if HAS_ONE_FUNCTION:
    register(Seam("dspy.clients.execution:aexecute", replacement=_execute, since="3.4"))
else:
    register(Seam("dspy.clients.lm:LM.aforward", replacement=joining))
