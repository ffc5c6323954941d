"""Embedders and retrievers. (The Embeddings retriever waits for its batching thread's future: see `thread_waits`.)"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..bridge import call_in_thread
from .async_counterparts import await_counterpart, is_beside
from .table import Seam, in_thread, register

__all__: list[str] = []


def _embed(original: Callable[..., Any], embedder: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # Embedder.acall calls a model that is a plain function on the loop.
    if isinstance(embedder.model, str) and is_beside(type(embedder), "__call__", "acall"):
        return await_counterpart(embedder.acall, original, embedder, args, kwargs)
    return call_in_thread(original, args, kwargs, "the embedding model has no async counterpart")


_retrieve = in_thread("the retriever makes a blocking request")

register(
    Seam("dspy.clients.embedding:Embedder.__call__", _embed, overrides=True),
    Seam("dspy.retrievers.retrieve:Retrieve.__call__", _retrieve, overrides=True),
    Seam("dspy.dsp.colbertv2:ColBERTv2.__call__", _retrieve, overrides=True),
)
