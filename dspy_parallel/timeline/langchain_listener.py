"""Sees LangGraph's nodes, and LangChain's models and tools, converted or not: by LangChain's own callbacks.

One handler for the whole process, which has LangChain add it to a run only where something is recorded.
"""

from __future__ import annotations

import sys
from typing import Any

from .. import events
from ..events import OpenSpan

__all__ = ["listen_to_langchain"]

_STEP = "graph:step:"
_is_listening = False


def listen_to_langchain() -> None:
    """Have LangChain tell of its runs, if it has been imported."""
    global _is_listening
    if _is_listening or "langchain_core.callbacks.base" not in sys.modules:
        return
    _is_listening = True
    from langchain_core.callbacks.base import BaseCallbackHandler
    from langchain_core.tracers.context import register_configure_hook

    class Listener(_Listening, BaseCallbackHandler):  # type: ignore[misc]
        run_inline = True  # in the task and context of what runs, not in a thread beside it

    class Source:
        """What LangChain asks, as it would a ContextVar, whether there is a handler to be added."""

        def __init__(self) -> None:
            self._listener = Listener()

        def get(self) -> Listener | None:
            return None if events.current() is None else self._listener

    register_configure_hook(Source(), inheritable=True)  # type: ignore[arg-type]


def _runs(span: OpenSpan) -> dict[Any, OpenSpan]:
    return getattr(span.recording, "runs", {})


def _begin(run_id: Any, parent_run_id: Any, kind: str, name: str, *, is_here: bool, **facts: Any) -> None:
    """Open a span for a run.

    Args:
        run_id: LangChain's identifier.
        parent_run_id: That of the run that it is a part of.
        kind: Of the span.
        name: Of the span.
        is_here: Whether what follows in this context is a part of it. A graph's run begins in the caller's context,
            which has other things to do between the items of a stream.
        **facts: Of the span.
    """
    here = events.current()
    if here is None:
        return
    runs = _runs(here)
    parent = runs.get(parent_run_id, here)
    if parent.kind == "chain" and kind == "node":
        parent.kind = "graph"  # only now it is known to be one
    before = events.innermost.get()
    runs[run_id] = events.begin(parent, kind, name, **facts)
    if not is_here:
        events.innermost.set(before)


def _end(run_id: Any, error: BaseException | None = None) -> None:
    here = events.current()
    opened = None if here is None else _runs(here).pop(run_id, None)
    if opened is not None:
        events.end(opened, error)


def _named(serialized: Any, known: dict[str, Any], default: str) -> str:
    return str(known.get("name") or (serialized or {}).get("name") or default)


class _Listening:
    """LangChain's callbacks; its base class is not known before it has been imported."""

    def on_chain_start(self, serialized: Any, inputs: Any, *, run_id: Any, **known: Any) -> None:
        """A graph, a node, or something else that is made of runnables."""
        tags = known.get("tags") or ()
        if "langsmith:hidden" in tags:
            return
        step = next((tag[len(_STEP) :] for tag in tags if tag.startswith(_STEP)), None)
        name = _named(serialized, known, "chain")
        parent = known.get("parent_run_id")
        if step is not None and step.lstrip("-").isdigit():
            _begin(run_id, parent, "node", name, is_here=True, step=int(step))
        else:
            _begin(run_id, parent, "chain", name, is_here=False)

    def on_chain_end(self, outputs: Any, *, run_id: Any, **known: Any) -> None:
        """It has ended."""
        _end(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: Any, **known: Any) -> None:
        """It has failed."""
        _end(run_id, error)

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **known: Any) -> None:
        """A model is called. If it streams, what is called between the pieces is no part of it."""
        model = (known.get("metadata") or {}).get("ls_model_name") or _named(serialized, known, "model")
        here = events.current()
        if here is not None and hasattr(here.owner, "generate_prompt"):  # `generate()` has a span already
            here.name = model
        else:
            _begin(run_id, known.get("parent_run_id"), "lm", model, is_here=False)

    on_llm_start = on_chat_model_start
    on_llm_end = on_tool_end = on_chain_end
    on_llm_error = on_tool_error = on_chain_error

    def on_tool_start(self, serialized: Any, input_str: str, *, run_id: Any, **known: Any) -> None:
        """A tool is called."""
        _begin(run_id, known.get("parent_run_id"), "tool", _named(serialized, known, "tool"), is_here=True)
