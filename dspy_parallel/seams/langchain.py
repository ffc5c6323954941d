"""What LangChain's users call synchronously: chat models, retrievers, tools, batches.

The async twins are LangChain's own. Where a class has only the sync side, LangChain's async side would run it in
the event loop's default executor, a few threads for everybody; here it gets a worker thread that is bridged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..bridge import await_, call_in_thread, in_bridge
from .table import Handler, Seam, register
from .twins import await_twin, is_twin

__all__: list[str] = []

_END = object()


def _twin(method: str, *pairs: tuple[str, str]) -> Handler:
    """Await `a<method>` if the class's async side does what its sync side does, else call the original in a thread."""

    def handler(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if all(is_twin(type(owner), *pair) for pair in ((method, f"a{method}"), *pairs)):
            return await_twin(getattr(owner, f"a{method}"), original, owner, args, kwargs)
        return call_in_thread(original, args, kwargs, f"{type(owner).__qualname__} has no async counterpart")

    return handler


def _stream(original: Callable[..., Any], model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    pairs = ("stream", "astream"), ("_stream", "_astream"), ("_generate", "_agenerate")
    if all(is_twin(type(model), *pair) for pair in pairs):
        return _awaited(model.astream(*args, **kwargs))
    return _threaded(original(*args, **kwargs), f"{type(model).__qualname__} has no async counterpart")


def _awaited(source: Any) -> Iterator[Any]:
    try:
        while True:
            try:
                item = await_(source.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        if in_bridge():  # not if the garbage collector closes it
            await_(source.aclose())


def _threaded(source: Iterator[Any], reason: str) -> Iterator[Any]:
    while (item := call_in_thread(next, (source, _END), {}, reason)) is not _END:
        yield item


def _batch(original: Callable[..., Any], runnable: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    pairs = ("batch", "abatch"), ("invoke", "ainvoke"), ("_generate", "_agenerate")
    if all(is_twin(type(runnable), *pair) for pair in pairs if hasattr(runnable, pair[0])) and not _is_lambda(runnable):
        return await_twin(runnable.abatch, original, runnable, args, kwargs)
    return call_in_thread(original, args, kwargs, "it waits for threads")


def _is_lambda(runnable: Any) -> bool:
    return hasattr(runnable, "func") and not hasattr(runnable, "afunc")


def _async_only(original: Callable[..., Any], owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A tool or lambda made of a coroutine function alone can be called synchronously here."""
    sync, asynchronous = ("coroutine", "func") if hasattr(owner, "coroutine") else ("afunc", "func")
    if getattr(owner, asynchronous, None) is None and getattr(owner, sync, None) is not None:
        return await_twin(owner.ainvoke, original, owner, args, kwargs)
    return original(*args, **kwargs)


_models = _twin("invoke", ("_generate", "_agenerate"))

register(
    Seam("langchain_core.language_models.chat_models:BaseChatModel.invoke", _models, overrides=True),
    Seam("langchain_core.language_models.chat_models:BaseChatModel.stream", _stream, overrides=True),
    Seam("langchain_core.language_models.llms:BaseLLM.invoke", _models, overrides=True),
    Seam("langchain_core.language_models.llms:BaseLLM.stream", _stream, overrides=True),
    Seam(
        "langchain_core.retrievers:BaseRetriever.invoke",
        _twin("invoke", ("_get_relevant_documents", "_aget_relevant_documents")),
        overrides=True,
    ),
    Seam("langchain_core.tools.base:BaseTool.invoke", _async_only),
    Seam("langchain_core.runnables.base:RunnableLambda.invoke", _async_only),
    Seam("langchain_core.runnables.base:RunnableParallel.invoke", _twin("invoke")),
    Seam("langchain_core.runnables.base:Runnable.batch", _batch),
)
