"""Where calls meet their limit: around an LM call as a whole, and around each of its requests.

The place is taken around the request, below DSPy's cache and callbacks and inside DSPy's retries: `_attempt` in DSPy
3.4, the functions that call LiteLLM before. An LM class of the user's own that gets there by no way of DSPy's takes
its place around the whole call.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import dspy

from ..bridge import in_bridge
from ..seams.lms import _has_twin
from ..seams.table import Seam, everywhere, register
from .assignment import limit_of
from .cached import Probe, is_cached, is_cached_async, is_probing
from .passages import Passage, current_passage, passing

__all__: list[str] = []

MANAGES_ATTEMPTS = importlib.util.find_spec("dspy.clients.execution") is not None
"""DSPy 3.4 and later make one attempt after the other themselves; before, LiteLLM retried."""


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


def _new_passage(lm: Any) -> Passage | None:
    """None if the LM has no limit, or this is a call in its call: that of `super()`."""
    limit = limit_of(lm)
    outer = current_passage()
    return None if limit is None or (outer is not None and outer.lm is lm) else Passage(limit, lm)


def _call(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_probing() or (in_bridge() and _has_twin(lm)):
        return original(*args, **kwargs)  # goes on as `lm.acall`
    passage = _new_passage(lm)
    if passage is None:
        return original(*args, **kwargs)
    with passing(passage):
        if not _makes_requests(lm):
            return passage.attempt_blocking(original, args, kwargs)
        if _is_watched(lm) and not is_cached(lm, args, kwargs):
            passage.enter_blocking()
        return original(*args, **kwargs)


def _acall(original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[Any]:
    passage = None if is_probing() else _new_passage(lm)
    return original(*args, **kwargs) if passage is None else _pass(passage, original, lm, args, kwargs)


async def _pass(passage: Passage, original: Callable[..., Any], lm: Any, args: tuple[Any, ...], kwargs: Any) -> Any:
    with passing(passage):
        if not _makes_requests(lm):
            return await passage.attempt(original, args, kwargs)
        if _is_watched(lm) and not await is_cached_async(lm, args, kwargs):
            await passage.enter()
        return await original(*args, **kwargs)


# One request


def _of(lm: Any) -> Passage | None:
    """The call that a request belongs to."""
    passage = current_passage()
    if passage is not None and (lm is None or passage.lm is lm):
        return passage
    limit = None if lm is None else limit_of(lm)
    return None if limit is None else Passage(limit, lm)


def _attempt(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    passage = _of(args[0])
    if passage is None:
        return original(*args, **kwargs)
    return passage.attempt_blocking(original, args, kwargs, _progress(args, kwargs))


def _aattempt(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    passage = _of(args[0])
    if passage is None:
        return original(*args, **kwargs)
    return passage.attempt(original, args, kwargs, _progress(args, kwargs))


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
    passage = current_passage()
    if passage is None:
        return original(*args, **kwargs)

    def request(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except _Refused as refused:
            error = refused.error
        raise error

    with _noting() as progress:
        return passage.attempt_blocking(request, args, kwargs, progress)


def _acomplete(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_probing():
        raise Probe
    passage = current_passage()
    if passage is None:
        return original(*args, **kwargs)

    async def request(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original(*args, **kwargs)
        except _Refused as refused:
            error = refused.error
        raise error

    async def attempt() -> Any:
        with _noting() as progress:
            return await passage.attempt(request, args, kwargs, progress)

    return attempt()


def _litellm_error(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """LiteLLM's translation of an error, which it raises; before it thinks of retries."""
    if MANAGES_ATTEMPTS or current_passage() is None:
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
    if current_passage() is not None and getattr(response, "status_code", None) == 429:
        return False
    return original(*args, **kwargs)


def _row(target: str, handler: Callable[..., Any], *, overrides: bool = False) -> Seam:
    return Seam(target, handler, overrides=overrides, optional=True, when=everywhere, layer="limit")


register(
    _row("dspy.clients.base_lm:BaseLM.__call__", _call, overrides=True),
    _row("dspy.clients.base_lm:BaseLM.acall", _acall, overrides=True),
    _row("dspy.clients.execution:_attempt", _attempt),
    _row("dspy.clients.execution:_aattempt", _aattempt),
    _row("dspy.clients.execution:_retryable", _retryable),
    *(
        _row(f"dspy.clients.lm:{prefix}litellm{kind}_completion", handler)
        for prefix, handler in (("", _complete), ("a", _acomplete))
        for kind in ("", "_text", "_responses")
        if not MANAGES_ATTEMPTS
    ),
    _row("litellm.main:exception_type", _litellm_error),
    _row("litellm:exception_type", _litellm_error),
    _row("openai._base_client:BaseClient._should_retry", _openai_retries),
)
