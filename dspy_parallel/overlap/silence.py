"""The scout's calls log nothing and warn of nothing: the main line makes the same calls, and does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..seams.table import Seam, register
from .session import current

__all__: list[str] = []


def _is_scout() -> bool:
    now = current.get()
    return now is not None and now.side == "scout"


def _drop(original: Callable[..., Any], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    return None


register(
    Seam("logging:Logger.handle", _drop, when=_is_scout, layer="overlap"),
    Seam("warnings:warn", _drop, when=_is_scout, layer="overlap"),
)
