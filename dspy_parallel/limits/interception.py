"""Where calls meet their limit: around an LM call as a whole, and around each of its requests.

The place is taken around the request, below DSPy's cache and callbacks and inside DSPy's retries: `_attempt` in DSPy
3.4, the functions that call LiteLLM before. An LM class of the user's own that gets there by no way of DSPy's takes
its place around the whole call.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import dspy

from ..bridge import in_bridge
from ..seams.cache_keys import uses_cache
from ..seams.lms import _has_twin
from ..seams.releases import release_of
from ..seams.table import Seam, everywhere, register
from .assignment import limit_of
from .limited_call import LimitedCall, around, current_call

__all__: list[str] = []

MANAGES_ATTEMPTS = (release_of("dspy.clients") or ()) >= (3, 4)
"""DSPy 3.4 and later make one attempt after the other themselves; before, LiteLLM retried."""


# Whether an answer will come from DSPy's cache, and therefore needs no turn. DSPy knows that after it has begun the
# call. So DSPy itself is asked: it prepares the call and looks into its cache, as it will again for the call proper;
# where it would make the request, it is stopped.


class Probe(BaseException):
    """Raised where a request would be made."""


_probing: contextvars.ContextVar[bool] = contextvars.ContextVar("dspy_parallel_probing", default=False)

is_probing = _probing.get
"""Whether the running code only wants to know if the cache has the answer."""


def is_cached(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the sync call would be answered from the cache."""
    if not uses_cache(lm, kwargs):
        return False
    token = _probing.set(True)
    try:
        if (execution := _execution()) is not None:
            return bool(execution._cached(lm, _prepared(execution, lm, args, kwargs, asynchronous=False), False))
        lm.forward(*args, **kwargs)
        return True
    except (Exception, Probe):  # what is wrong with the call, the call itself will say
        return False
    finally:
        _probing.reset(token)


async def is_cached_async(lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the async call would be answered from the cache; the two have different keys."""
    if not uses_cache(lm, kwargs):
        return False
    token = _probing.set(True)
    try:
        if (execution := _execution()) is not None:
            call = _prepared(execution, lm, args, kwargs, asynchronous=True)
            return bool(await asyncio.to_thread(execution._cached, lm, call, True))  # as DSPy does: it may be on disk
        request: Awaitable[Any] = lm.aforward(*args, **kwargs)
        await request
        return True
    except (Exception, Probe):
        return False
    finally:
        _probing.reset(token)


def _execution() -> Any:
    try:
        return importlib.import_module("dspy.clients.execution")
    except ImportError:  # before DSPy 3.4
        return None


def _prepared(execution: Any, lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, asynchronous: bool) -> Any:
    prompt = args[0] if args else kwargs.get("prompt")
    rest = {name: value for name, value in kwargs.items() if name not in ("prompt", "messages")}
    return execution.prepare(lm, prompt, kwargs.get("messages"), rest, asynchronous=asynchronous)


# The call as a whole


def _is_of(lm: Any, *names: str) -> bool:
    return all(str(getattr(getattr(type(lm), name), "__module__", "")).startswith("dspy.clients.") for name in names)


def _makes_requests(lm: Any) -> bool:
    """Whether the LM's requests go through the functions that are patched below."""
    if not _is_of(lm, "__call__", "acall"):
        return False
    return MANAGES_ATTEMPTS or (isinstance(lm, dspy.LM) and _is_of(lm, "forward", "aforward"))


def _is_watched(lm: Any) -> bool:
    """Whether callbacks will measure how long the call takes: then it waits before it begins."""
    return bool(dspy.settings.get("callbacks", None) or getattr(lm, "callbacks", None))


def _new_call(lm: Any) -> LimitedCall | None:
    """None if the LM has no limit, or this is a call in its call: that of `super()`."""
    limit = limit_of(lm)
    outer = current_call()
    return None if limit is None or (outer is not None and outer.lm is lm) else LimitedCall(limit, lm)


def _call(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_probing() or (in_bridge() and _has_twin(lm)):
        return original(*args, **kwargs)  # goes on as `lm.acall`
    call = _new_call(lm)
    if call is None:
        return original(*args, **kwargs)
    with around(call):
        if not _makes_requests(lm):
            return call.attempt_blocking(original, args, kwargs)
        if _is_watched(lm) and not is_cached(lm, args, kwargs):
            call.enter_blocking()
        return original(*args, **kwargs)


def _acall(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
    call = None if is_probing() else _new_call(lm)
    return original(*args, **kwargs) if call is None else _pass(call, original, lm, args, kwargs)


async def _pass(call: LimitedCall, original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    with around(call):
        if not _makes_requests(lm):
            return await call.attempt(original, args, kwargs)
        if _is_watched(lm) and not await is_cached_async(lm, args, kwargs):
            await call.enter()
        return await original(*args, **kwargs)


# One request


def _of(lm: Any) -> LimitedCall | None:
    """The call that a request belongs to."""
    call = current_call()
    if call is not None and (lm is None or call.lm is lm):
        return call
    limit = None if lm is None else limit_of(lm)
    return None if limit is None else LimitedCall(limit, lm)


def _attempt(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _of(args[0])
    if call is None:
        return original(*args, **kwargs)
    return call.attempt_blocking(original, args, kwargs, _progress(args, kwargs))


def _aattempt(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = _of(args[0])
    if call is None:
        return original(*args, **kwargs)
    return call.attempt(original, args, kwargs, _progress(args, kwargs))


def _retryable(original: Callable[..., bool], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """A request that was refused until its time was up is not retried on top."""
    return not getattr(_progress(args, kwargs), "gave_up", False) and original(*args, **kwargs)


def _progress(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """DSPy's record of the attempt, which is among the arguments."""
    return next((value for value in (*args, *kwargs.values()) if type(value).__name__ == "_Attempt"), None)


# One request before DSPy 3.4: LiteLLM and the OpenAI client below it would retry a refused one by themselves


class _Stream:
    """Notes whether something has been sent into the program's stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.emitted = self.completed = self.gave_up = False

    async def send(self, chunk: Any) -> None:
        self.emitted = True
        await self._stream.send(chunk)


@contextmanager
def _noting() -> Generator[_Stream | None]:
    stream = dspy.settings.get("send_stream", None)
    if stream is None:
        yield None
        return
    noting = _Stream(stream)
    with dspy.context(send_stream=noting):
        yield noting


class _Refused(BaseException):
    """Carries a refusal past LiteLLM's retries, which only know exceptions of class `Exception`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def _complete(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_probing():
        raise Probe
    call = current_call()
    if call is None:
        return original(*args, **kwargs)

    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except _Refused as refused:
            error = refused.error
        raise error

    with _noting() as progress:
        return call.attempt_blocking(request, args, kwargs, progress)


def _acomplete(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_probing():
        raise Probe
    call = current_call()
    if call is None:
        return original(*args, **kwargs)

    async def request(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except _Refused as refused:
            error = refused.error
        raise error

    async def attempt() -> Any:
        with _noting() as progress:
            return await call.attempt(request, args, kwargs, progress)

    return attempt()


def _litellm_error(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LiteLLM's translation of an error, which it raises; before it thinks of retries."""
    if MANAGES_ATTEMPTS or current_call() is None:
        return original(*args, **kwargs)
    try:
        return original(*args, **kwargs)
    except Exception as error:
        if type(error).__name__ != "RateLimitError":
            raise
        refused = _Refused(error)
    raise refused


def _openai_retries(original: Callable[..., bool], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    response = args[0] if args else kwargs.get("response")
    if current_call() is not None and getattr(response, "status_code", None) == 429:
        return False
    return original(*args, **kwargs)


def _row(
    target: str, handler: Callable[..., Any], *, overrides: bool = False, since: str = "", until: str = ""
) -> Seam:
    return Seam(target, handler, overrides=overrides, since=since, until=until, when=everywhere, layer="limit")


register(
    _row("dspy.clients.base_lm:BaseLM.__call__", _call, overrides=True),
    _row("dspy.clients.base_lm:BaseLM.acall", _acall, overrides=True),
    _row("dspy.clients.execution:_attempt", _attempt, since="3.4"),
    _row("dspy.clients.execution:_aattempt", _aattempt, since="3.4"),
    _row("dspy.clients.execution:_retryable", _retryable, since="3.4"),
    *(
        _row(f"dspy.clients.lm:{prefix}litellm{kind}_completion", handler, until="3.4")
        for prefix, handler in (("", _complete), ("a", _acomplete))
        for kind in ("", "_text", "_responses")
    ),
    _row("litellm.main:exception_type", _litellm_error),
    _row("litellm:exception_type", _litellm_error),
    _row("openai._base_client:BaseClient._should_retry", _openai_retries),
)
