"""Where a recording sees DSPy at work: modules, LM calls, tools, the waits inside a request, executors' threads.

Not by DSPy's callbacks. They bind the arguments of every call of modules, LMs, tools and adapters by name, which
costs 0.1 to 0.3 ms for a single predictor call, many times what these rows do. They would be seen in the settings, and
in `ACTIVE_CALL_ID` by other callbacks; and they would not be called where a program sets callbacks of its own.

The rows are in place while something is recorded; otherwise, a process does not even have the look at a context
variable that they cost it then. They are all that a recording patches: connection pools, say, are what they are.
"""

from __future__ import annotations

import functools
import inspect
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any, Final

import dspy

from .. import events
from ..events import OpenSpan
from .table import Handler, Seam, install, register, uninstall

__all__ = ["watching"]

_PART: Final = "recording"


def _is_recorded() -> bool:
    return events.current() is not None


# --- Calls


def _name_of_module(module: Any, parent: OpenSpan | None) -> str:
    """The attribute of the calling module that holds it, as in `self.summarize`; else its class."""
    while parent is not None and parent.kind in ("thread", "wait"):
        parent = parent.parent
    owner = parent.owner if parent is not None else None
    name = _name_in(owner, module)
    if name is None and parent is not None and isinstance(owner, dspy.Module):
        name = _names_below(parent.recording, owner).get(id(module))
    return name or type(module).__name__


def _names_below(recording: Any, owner: Any) -> dict[int, str]:
    """What a program's predictors are called, however deep they are: overlap calls them directly."""
    known: dict[int, dict[int, str]] = vars(recording).setdefault("names", {})
    if id(owner) not in known:
        named = owner.named_predictors()
        known[id(owner)] = {id(predictor): name.removesuffix(".predict") for name, predictor in named}
    return known[id(owner)]


def _name_in(owner: Any, module: Any) -> str | None:
    for name, value in getattr(owner, "__dict__", {}).items():
        if value is module:
            return str(name)
        if isinstance(value, (list, tuple)):
            for number, item in enumerate(value[:100]):
                if item is module:
                    return f"{name}[{number}]"
        elif isinstance(value, dict):
            for key, item in value.items():
                if item is module:
                    return f"{name}[{key!r}]"
    return None


def _begin_module(parent: OpenSpan, module: Any) -> OpenSpan:
    kind = "predictor" if isinstance(module, dspy.Predict) else "module"
    return events.begin(parent, kind, _name_of_module(module, parent), module, type=type(module).__name__)


def _begin_lm(parent: OpenSpan, lm: Any) -> OpenSpan | None:
    if parent.owner is lm:  # `lm(...)` that goes by way of `lm.acall(...)`, or a subclass's own method
        return None
    return events.begin(parent, "lm", str(getattr(lm, "model", type(lm).__name__)), lm)


def _begin_model(parent: OpenSpan, model: Any) -> OpenSpan | None:
    """A model of LangChain's; its callback knows a better name. It calls `generate()` for all but streams."""
    return None if parent.owner is model else events.begin(parent, "lm", type(model).__name__, model)


def _begin_tool(parent: OpenSpan, tool: Any) -> OpenSpan | None:
    return None if parent.owner is tool else events.begin(parent, "tool", str(tool.name), tool)


Begin = Callable[[OpenSpan, Any], "OpenSpan | None"]


def _sync(begin: Begin) -> Handler:
    def handler(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parent = events.current()
        opened = None if parent is None else begin(parent, instance)
        if opened is None:
            return original(*args, **kwargs)
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            _told(opened, args, kwargs, error)
            events.end(opened, error)
            raise
        _told(opened, args, kwargs, result)
        events.end(opened)
        return result

    return handler


def _async(begin: Begin) -> Handler:
    async def call(original: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parent = events.current()
        opened = None if parent is None else begin(parent, instance)
        if opened is None:
            return await original(*args, **kwargs)
        try:
            result = await original(*args, **kwargs)
        except BaseException as error:
            _told(opened, args, kwargs, error)
            events.end(opened, error)
            raise
        _told(opened, args, kwargs, result)
        events.end(opened)
        return result

    return call


def _told(opened: OpenSpan, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
    tell = getattr(opened.recording, "told", None)
    if tell is not None:
        tell(opened, args, kwargs, result)


# --- Waits


def _ended(name: str, started: float, result: Any = None, error: BaseException | None = None) -> None:
    status = getattr(result, "status", None)
    facts: dict[str, Any] = {"status": status} if isinstance(status, int) else {}
    if error is not None:
        facts["error"] = type(error).__name__
    events.waited(name, started, **facts)


def _wait(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, sync or async, with the time that it takes noted as a wait."""
    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def await_(*args: Any, **kwargs: Any) -> Any:
            if events.current() is None:
                return await original(*args, **kwargs)
            started = time.perf_counter()
            try:
                result = await original(*args, **kwargs)
            except BaseException as error:
                _ended(name, started, error=error)
                raise
            _ended(name, started, result)
            return result

        return await_

    @functools.wraps(original)
    def wait(*args: Any, **kwargs: Any) -> Any:
        if events.current() is None:
            return original(*args, **kwargs)
        started = time.perf_counter()
        try:
            result = original(*args, **kwargs)
        except BaseException as error:
            _ended(name, started, error=error)
            raise
        _ended(name, started, result)
        return result

    return wait


def _cache_get(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def get(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        if found is not None:
            events.note("lm", cached=True)
        return found

    return get


def _count_tokens(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # `update_history(entry)`, which DSPy calls also where no history is kept
    entry = kwargs.get("entry", args[-1] if args else None)
    usage = entry.get("usage") if isinstance(entry, dict) else None
    tokens = usage.get("total_tokens") if isinstance(usage, dict) else None
    if isinstance(tokens, int):
        events.note("lm", tokens=tokens)
    return original(*args, **kwargs)


# --- Threads


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    """`dspy.Parallel` and users' own executors give their threads no context."""

    @functools.wraps(original)
    def submit(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if events.current() is None or not args or _brings_context(args[0]):
            return original(self, *args, **kwargs)
        return original(self, events.carried(args[0]), *args[1:], **kwargs)

    return submit


def _brings_context(fn: Any) -> bool:
    """Whether it is what `asyncio.to_thread()` submits."""
    return type(fn) is partial and type(getattr(fn.func, "__self__", None)) is Context


def _row(target: str, handler: Handler, *, overrides: bool = False, since: str = "") -> Seam:
    return Seam(target, handler, overrides=overrides, since=since, when=_is_recorded, layer=_PART, part=_PART)


def _plain(target: str, replacement: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Seam:
    """For what users neither subclass nor pickle: a plain function costs a third of a patch."""
    since = "3.4" if target.startswith(_LM15) else ""
    return Seam(target, replacement=replacement, since=since, layer=_PART, part=_PART)


def _waits(target: str, name: str) -> Seam:
    return _plain(target, partial(_wait, name))


_LM15 = "dspy._vendor.lm15.transports"

register(
    _row("dspy.primitives.module:Module.__call__", _sync(_begin_module)),
    _row("dspy.primitives.module:Module.acall", _async(_begin_module)),
    _row("dspy.clients.base_lm:BaseLM.__call__", _sync(_begin_lm), overrides=True),
    _row("dspy.clients.base_lm:BaseLM.acall", _async(_begin_lm), overrides=True),
    _row("dspy.clients.typesafe:TypeSafe.__call__", _sync(_begin_lm), since="3.4"),
    _row("dspy.clients.typesafe:TypeSafe.acall", _async(_begin_lm), since="3.4"),
    _row("dspy.adapters.types.tool:Tool.__call__", _sync(_begin_tool)),
    _row("dspy.adapters.types.tool:Tool.acall", _async(_begin_tool)),
    _row("dspy.clients.base_lm:BaseLM.update_history", _count_tokens),
    _plain("dspy.clients.cache:Cache.get", _cache_get),
    _plain("concurrent.futures.thread:ThreadPoolExecutor.submit", _submit),
    # DSPy's own engine, from 3.4 on
    _waits(f"{_LM15}._async:_AsyncConnectionPool.acquire_slot", "connection"),
    _waits(f"{_LM15}._async:StdlibAsyncTransport._open", "connection"),
    _waits(f"{_LM15}._async:StdlibAsyncTransport._read_head", "reply"),
    _waits(f"{_LM15}._sync:_ConnectionPool.acquire_slot", "connection"),
    _waits(f"{_LM15}._sync:StdlibTransport._open", "connection"),
    _waits(f"{_LM15}._sync:StdlibTransport._read_head", "reply"),
    # LiteLLM: aiohttp for async calls, httpx for the others
    _waits("aiohttp.connector:BaseConnector.connect", "connection"),
    _waits("aiohttp.client_reqrep:ClientResponse.start", "reply"),
)
for _model in ("chat_models:BaseChatModel", "llms:BaseLLM"):
    register(
        _row(f"langchain_core.language_models.{_model}.generate", _sync(_begin_model)),
        _row(f"langchain_core.language_models.{_model}.agenerate", _async(_begin_model)),
    )
for _httpcore in ("httpcore", "httpcore2"):
    register(
        _waits(f"{_httpcore}._sync.connection_pool:PoolRequest.wait_for_connection", "connection"),
        _waits(f"{_httpcore}._sync.connection:HTTPConnection._connect", "connection"),
        _waits(f"{_httpcore}._sync.http11:HTTP11Connection.handle_request", "reply"),
        _waits(f"{_httpcore}._async.connection_pool:AsyncPoolRequest.wait_for_connection", "connection"),
        _waits(f"{_httpcore}._async.connection:AsyncHTTPConnection._connect", "connection"),
        _waits(f"{_httpcore}._async.http11:AsyncHTTP11Connection.handle_async_request", "reply"),
    )

_lock = threading.RLock()  # the garbage collector may end a recording, wherever it sets in
_recordings = 0


@contextmanager
def watching() -> Generator[None]:
    """Have the rows in place in the block. Blocks may overlap, in any threads; calls that run go on as they began."""
    global _recordings
    with _lock:
        _recordings += 1
        install(_PART)
    try:
        yield
    finally:
        with _lock:
            _recordings -= 1
            if not _recordings:
                uninstall(_PART)
