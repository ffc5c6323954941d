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

__all__ = ["PACKAGE", "hide_frames"]

PACKAGE = f"{Path(__file__).parents[1].as_posix()}/"
_OWN = (f"{PACKAGE}bridge/", f"{PACKAGE}seams/")


def hide_frames(exception: BaseException, *of: str) -> None:
    """Take the frames of some folders out of an exception's traceback, and of those that it came from."""
    todo: list[BaseException | None] = [exception]
    done: set[int] = set()
    while todo:
        current = todo.pop()
        if current is not None and id(current) not in done:
            done.add(id(current))
            current.__traceback__ = _cleaned(current.__traceback__, of)
            todo += [current.__cause__, current.__context__]


def _cleaned(traceback: types.TracebackType | None, folders: tuple[str, ...]) -> types.TracebackType | None:
    kept = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.replace("\\", "/").startswith(folders):
            kept.append(traceback)
        traceback = traceback.tb_next
    cleaned = None
    for entry in reversed(kept):
        cleaned = types.TracebackType(cleaned, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return cleaned


def _format(original: Callable[..., str], _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    for exception in (*args, *kwargs.values()):
        if isinstance(exception, BaseException):
            hide_frames(exception, *_OWN)
    return original(*args, **kwargs)


register(
    Seam("dspy.predict.react:_fmt_exc", _format, until="3.3.1", when=everywhere),
    Seam("dspy.predict.react:format_error_for_lm", _format, since="3.3.1", when=everywhere),
    Seam("dspy.predict.react_v2:format_error_for_lm", _format, since="3.3.1", when=everywhere),
)
