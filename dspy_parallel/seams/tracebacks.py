"""Agents show the traceback of a failed tool to the LM, cut to the first five frames.

Five frames of the bridge would leave nothing of the tool's own, and make another prompt of it than without the
bridge.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .table import Seam, everywhere, register

__all__ = ["hide_own_frames"]

_PACKAGE = Path(__file__).parents[1].as_posix()
_OWN = (f"{_PACKAGE}/bridge/", f"{_PACKAGE}/seams/")


def hide_own_frames(exception: BaseException) -> None:
    """Take the frames of bridge and seams out of an exception's traceback, and of those that it came from."""
    todo: list[BaseException | None] = [exception]
    done: set[int] = set()
    while todo:
        current = todo.pop()
        if current is not None and id(current) not in done:
            done.add(id(current))
            current.__traceback__ = _cleaned(current.__traceback__)
            todo += [current.__cause__, current.__context__]


def _cleaned(traceback: types.TracebackType | None) -> types.TracebackType | None:
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.replace("\\", "/").startswith(_OWN):
            kept.append(traceback)
        traceback = traceback.tb_next
    cleaned = None
    for entry in reversed(kept):
        cleaned = types.TracebackType(cleaned, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return cleaned


def _format(original: Callable[..., str], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    for exception in (*args, *kwargs.values()):
        if isinstance(exception, BaseException):
            hide_own_frames(exception)
    return original(*args, **kwargs)


register(
    Seam("dspy.predict.react:_fmt_exc", _format, optional=True, when=everywhere),
    Seam("dspy.predict.react:format_error_for_lm", _format, optional=True, when=everywhere),
    Seam("dspy.predict.react_v2:format_error_for_lm", _format, optional=True, when=everywhere),
)
