"""Compiled graphs: `invoke`, `stream`, `batch`, `get_state` and the like, by way of their async twins.

The methods are switched by a subclass of the graph's own class, not on the instance: `Pregel.copy()`, and so
`with_config()`, makes a new instance. The subclass keeps module and name, which show in drawn graphs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.runnables import Runnable
from langgraph.pregel import Pregel

from .caches import adapted_cache
from .savers import adapted, lend_adapted
from .streams import iterate
from .waiting import wait_for

__all__ = ["is_parallel", "parallel_class", "same_name"]


def _waits_for(name: str, base: type = Pregel) -> Callable[..., Any]:
    sync = getattr(base, name)
    twin = f"a{name}"

    @functools.wraps(sync)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wait_for(functools.partial(getattr(self, twin), *args, **kwargs))

    return method


def _iterates(name: str, base: type = Pregel) -> Callable[..., Any]:
    sync = getattr(base, name)
    twin = f"a{name}"

    @functools.wraps(sync)
    def method(self: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return iterate(functools.partial(getattr(self, twin), *args, **kwargs))

    return method


_MARK = "_is_parallel"

_METHODS: dict[str, Any] = {
    _MARK: True,
    "invoke": _waits_for("invoke"),
    "stream": _iterates("stream"),
    "batch": _waits_for("batch", Runnable),
    "batch_as_completed": _iterates("batch_as_completed", Runnable),
    "get_state": _waits_for("get_state"),
    "get_state_history": _iterates("get_state_history"),
    "update_state": _waits_for("update_state"),
    "bulk_update_state": _waits_for("bulk_update_state"),
    "clear_cache": _waits_for("clear_cache"),
    "cache": property(
        lambda self: adapted_cache(vars(self).get("cache")), lambda self, cache: vars(self).update(cache=cache)
    ),
}


def _adapting_savers(cls: Any) -> dict[str, Any]:
    """Methods that make runs and state methods use adapted savers."""
    if hasattr(Pregel, "_resolve_checkpointer"):

        def _resolve_checkpointer(self: Any, config: Any) -> Any:
            return adapted(cls._resolve_checkpointer(self, config))

        return {"_resolve_checkpointer": _resolve_checkpointer}

    # Before LangGraph 1.2, every method reads `self.checkpointer` or what a parent graph lends in the config.

    def checkpointer(self: Any) -> Any:
        return adapted(vars(self).get("checkpointer"))

    def set_checkpointer(self: Any, saver: Any) -> None:
        vars(self)["checkpointer"] = saver

    def lent(name: str) -> Callable[..., Any]:
        original = getattr(cls, name)

        @functools.wraps(original)
        def method(self: Any, config: Any, *args: Any, **kwargs: Any) -> Any:
            return original(self, lend_adapted(config), *args, **kwargs)

        return method

    def astream(self: Any, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return cls.astream(self, input, lend_adapted(config), **kwargs)

    return {
        "checkpointer": property(checkpointer, set_checkpointer),
        "astream": functools.wraps(cls.astream)(astream),
        **{name: lent(name) for name in ("aget_state", "aget_state_history", "abulk_update_state")},
    }


def is_parallel(graph: object) -> bool:
    """Whether the graph has been converted."""
    return hasattr(type(graph), _MARK)


@functools.cache
def parallel_class(cls: Any) -> Any:
    """The class that a converted instance of this class of graph has."""
    return cls if hasattr(cls, _MARK) else same_name(cls, {**_METHODS, **_adapting_savers(cls)})


def same_name(cls: Any, namespace: dict[str, Any]) -> Any:
    """A subclass that looks like its base, and whose instances can be had by exchanging `__class__`."""
    # With a second base, the layout of instances would differ.
    return type(cls)(
        cls.__name__,
        (cls,),
        {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__, **namespace},
    )
