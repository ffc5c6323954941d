"""Embedders and retrievers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..bridge import await_, call_in_thread
from .table import Seam, in_thread, register
from .twins import await_twin, is_twin

__all__: list[str] = []


def _embed(original: Callable[..., Any], embedder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # Embedder.acall calls a model that is a plain function on the loop.
    if isinstance(embedder.model, str) and is_twin(type(embedder), "__call__", "acall"):
        return await_twin(embedder.acall, original, embedder, args, kwargs)
    return call_in_thread(original, args, kwargs, "the embedding model is a sync function")


def _search(original: Callable[..., Any], search: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Enqueue as the original does, but wait for the batching thread without blocking this one."""
    (item,) = args if args else kwargs.values()
    from concurrent.futures import Future

    future: Future[Any] = Future()
    search.input_queue.put((item, future))
    # Shielded: the batching thread sets the result of whatever it took from the queue.
    return await_(asyncio.shield(asyncio.wrap_future(future)))


_retrieve = in_thread("the retriever makes a blocking request")

register(
    Seam("dspy.clients.embedding:Embedder.__call__", _embed, overrides=True),
    Seam("dspy.utils.unbatchify:Unbatchify.__call__", _search),
    Seam("dspy.retrievers.retrieve:Retrieve.__call__", _retrieve, overrides=True),
    Seam("dspy.dsp.colbertv2:ColBERTv2.__call__", _retrieve, overrides=True),
)
