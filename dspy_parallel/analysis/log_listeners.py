"""Who hears what is logged or printed: code of Python's own that writes it somewhere, or anybody's.

Handlers that mail, post or send what they are given wait for the network. So only those are known that are named here.
"""

from __future__ import annotations

import io
import logging
import logging.handlers
import queue
import re
import sys
import threading
import types
from typing import Any

from .trusted_types import SCALARS, is_from

__all__ = ["is_heard_by_nobody", "is_stream_known"]

_LISTENERS = (
    *(logging.Filter, logging.NullHandler, logging.StreamHandler, logging.FileHandler),
    *(type(logging.lastResort), logging.handlers.RotatingFileHandler, logging.handlers.TimedRotatingFileHandler),
    *(logging.handlers.WatchedFileHandler, logging.handlers.QueueHandler),
)
_PARTS = (
    *(*SCALARS, list, re.Pattern, types.BuiltinFunctionType, type(threading.RLock()), queue.Queue),
    *(queue.SimpleQueue, logging.handlers.QueueListener, logging.StringTemplateStyle),
)
"""What a handler, formatter or filter may hold. Filters, in a list, are looked at by themselves."""
_STYLES = (logging.Formatter, logging.PercentStyle, logging.StrFormatStyle)
_OTHERS = ("rich", "_pytest")
_STREAMS = (*_OTHERS, "ipykernel", "colorama", "dspy")
_HOOKS = frozenset(["handle", "callHandlers", "makeRecord", "_log", "filter", "isEnabledFor", "getEffectiveLevel"])


def is_heard_by_nobody(logger: logging.Logger) -> bool:
    """Whether what is logged is written somewhere, and not told to code of the user's."""
    members = vars(logging.Logger)
    if logging.getLogRecordFactory() is not logging.LogRecord or not _HOOKS.isdisjoint(vars(logger)):
        return False
    if any(getattr(members.get(name), "__globals__", vars(logging)) is not vars(logging) for name in _HOOKS):
        return False  # as error trackers patch them
    place: logging.Logger | None = logger
    while place is not None:
        if not all(map(_is_listener_known, (*place.filters, *place.handlers))):
            return False
        place = place.parent if place.propagate else None
    return True


def _is_listener_known(listener: Any) -> bool:
    if type(listener) not in _LISTENERS and not is_from(type(listener), *_OTHERS):
        return False
    return all(map(_is_listener_known, getattr(listener, "filters", ()))) and all(
        map(_is_part_known, vars(listener).values())
    )


def _is_part_known(part: Any) -> bool:
    cls = type(part)
    if cls in _PARTS:
        return True
    if cls in _STYLES:
        return all(map(_is_part_known, vars(part).values()))
    if is_from(cls, "rich"):
        return is_stream_known(getattr(part, "_file", None) or sys.stdout)
    return is_stream_known(part)


def is_stream_known(stream: Any) -> bool:
    """Whether writing to it is writing to a file or to memory, as with `print()`."""
    if type(stream) is io.TextIOWrapper:
        file: Any = getattr(stream.buffer, "raw", stream.buffer)
        return type(file) in (io.FileIO, io.BytesIO)
    return stream is None or type(stream) is io.StringIO or is_from(type(stream), *_STREAMS)
