"""When an async method may stand in for a sync one.

Only if no class has replaced the sync method without replacing its twin. A subclass that overrides `__call__`
or `forward` alone means its override to be used; the async method that it inherits knows nothing of it.
"""

from __future__ import annotations

__all__ = ["is_twin"]


def _depth(cls: type, name: str) -> int | None:
    return next((depth for depth, base in enumerate(cls.__mro__) if name in vars(base)), None)


def is_twin(cls: type, sync: str, twin: str) -> bool:
    """Whether, in this class, the twin is defined at least as far down as the sync method.

    Args:
        cls: The class to look at.
        sync: The sync method's name.
        twin: The async method's name.
    """
    sync_depth, twin_depth = _depth(cls, sync), _depth(cls, twin)
    return twin_depth is not None and (sync_depth is None or twin_depth <= sync_depth)
