"""Loggers of loguru and structlog: who hears what they are told, found out without running anybody's code.

What is not as their releases have it, by type and by name, is not known.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import sys
import threading
import types
from typing import Any

from .format_strings import reads_parts
from .log_listeners import is_stream_known
from .trusted_types import SCALARS, VALUES, is_code_of, is_from

__all__ = ["bound_values", "is_logger", "logger_made", "method_of", "refusal", "why_heard"]

_PACKAGES = ("loguru", "structlog")
_LEVELS = frozenset(["trace", "debug", "info", "success", "warning", "error", "critical", "_nop"])
"""Names of methods; `_nop` is what structlog has for levels that are left out."""
_PARTS_OF_STRUCTLOG = frozenset(
    [
        *("merge_contextvars", "add_log_level", "StackInfoRenderer", "set_exc_info", "TimeStamper", "format_exc_info"),
        *("ExceptionRenderer", "ConsoleRenderer", "JSONRenderer", "KeyValueRenderer"),
        *("PrintLogger", "PrintLoggerFactory", "WriteLogger", "WriteLoggerFactory"),
    ]
)
"""Processors and outputs that raise nothing, whatever plain data they are given."""
_MEANT = frozenset(["event", "level", "exc_info", "exception", "stack_info", "stack"])
"""Keywords by which structlog is told something else than a value: to print variables, for instance."""
_KNOWN = (*SCALARS, *VALUES, type(threading.Lock()), type(threading.RLock()), threading.local)


def is_logger(cls: type) -> bool:
    """Whether instances are such loggers."""
    # By its name first: this is asked of whatever attributes are read of.
    if _is_logurus(cls):
        return is_from(cls, "loguru")
    return cls.__name__.startswith("BoundLogger") and is_from(cls, "structlog")


def _is_logurus(cls: type) -> bool:
    """Which of the two it is, of a class that is one of them."""
    return cls.__name__ == "Logger"


def method_of(logger: Any, name: str) -> Any:
    """A method, or None if there is none of theirs. structlog takes it from a class that is configured."""
    found: Any = getattr(type(logger), name, None)
    if found is None and type(logger).__name__ == "BoundLoggerLazyProxy":
        found = inspect.getattr_static(_parts(logger)[0], name, None)
    if found is None or not is_code_of(found, *_PACKAGES) or (name in vars(logger) and name != "bind"):
        return None
    return types.MethodType(found, logger)


def logger_made(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """The logger that a call returns, made for the caller alone; None if it returns none, or may do anything else."""
    structlog: Any = sys.modules.get("structlog")
    if structlog is not None and function is vars(structlog).get("get_logger") and is_code_of(function, "structlog"):
        return function(*args, **kwargs)
    if type(function) is not types.MethodType or not is_logger(type(function.__self__)) or args:
        return None
    logger, name = function.__self__, function.__func__.__name__
    if _is_logurus(type(logger)):
        return function(**kwargs) if name in ("bind", "opt") else None
    cls, processors, output, context = _parts(logger)
    proxy: Any = vars(sys.modules["structlog._config"]).get("BoundLoggerLazyProxy")
    if name != "bind" or type(context) is not dict or proxy is None:
        return None
    return proxy(output, cls, processors, dict, False, {**context, **kwargs})


def _parts(logger: Any) -> tuple[Any, Any, Any, Any]:
    """Of one of structlog: the class that has its methods, the processors, what writes or makes that, the context."""
    with contextlib.suppress(AttributeError, KeyError):  # in a version that is not known
        if type(logger).__name__ == "BoundLoggerLazyProxy" and "bind" not in vars(logger):
            config = sys.modules["structlog"].get_config()
            cls = logger._wrapper_class or config["wrapper_class"]
            processors = config["processors"] if logger._processors is None else logger._processors
            output = config["logger_factory"] if logger._logger is None else logger._logger
            is_dict = (logger._context_class or config["context_class"]) is dict
            return cls, processors, output, logger._initial_values if is_dict else None
        if is_code_of(vars(logger).get("bind"), "structlog"):
            logger = logger.bind()  # the one that it keeps
        return type(logger), logger._processors, logger._logger, logger._context
    return type(logger), (), None, None


def why_heard(method: types.MethodType) -> str:
    """Why what is logged may be told to code of the user's, or raise; empty if it is only written somewhere."""
    try:
        return (_why_loguru if _is_logurus(type(method.__self__)) else _why_structlog)(method.__self__, method.__func__)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "this version of loguru or structlog is not known"


def _why_loguru(logger: Any, function: Any) -> str:
    core = logger._core
    exception, depth, record, lazy, colors, _, _, patchers, _ = logger._options
    is_patched = not is_code_of(type(logger)._log, "loguru") or vars(logger).keys() != {"_core", "_options"}
    is_plain = type(depth) is int and all(each is False or each is None for each in (exception, record, lazy, colors))
    if function.__name__ not in _LEVELS or not is_plain or is_patched:
        return f"`{function.__name__}` of this loguru logger may have effects"
    if core.patcher is not None or not (patchers is None or (type(patchers) is list and not patchers)):
        return "a patcher of loguru is code of your own"
    for handler in core.handlers.values():
        if handler._error_interceptor._should_catch is not True or not _are_known(handler):
            return f"loguru's sink {handler._name}, its filter or its format may have effects"
    return ""


def _why_structlog(logger: Any, function: Any) -> str:
    cls, processors, output, context = _parts(logger)
    methods = [function, *(inspect.getattr_static(cls, each) for each in ("_proxy_to_logger", "_process_event"))]
    is_filter = cls.__name__.startswith("BoundLoggerFilteringAt") and type(context) is dict
    if function.__name__ not in _LEVELS or not is_filter or not all(is_code_of(each, "structlog") for each in methods):
        return f"`{function.__name__}` of structlog's {cls.__name__} may have effects"
    for part in (*processors, output):
        kind: str = (part if type(part) is types.FunctionType else type(part)).__name__
        if kind not in _PARTS_OF_STRUCTLOG or not _are_known(part, sys.stdout):
            return f"structlog's {kind} may have effects"
    return ""


def _are_known(*parts: Any) -> bool:
    """Whether there is nothing but code of these packages, data, and files in these, and in what they are made of."""
    todo, seen = list(parts), set[int]()
    while todo:
        part = todo.pop()
        cls = type(part)
        if id(part) in seen or cls in _KNOWN or is_stream_known(part) or part is repr or part is str:
            continue
        seen.add(id(part))
        if cls in (list, tuple, set, frozenset) or (issubclass(cls, tuple) and is_from(cls, *_PACKAGES)):
            todo += part
        elif cls is dict:
            todo += [*part, *part.values()]
        elif cls is functools.partial:
            todo += [part.func, *part.args, *part.keywords.values()]
        elif cls is types.MethodType:
            todo += [part.__self__, part.__func__]
        elif cls is types.BuiltinMethodType and isinstance(part.__self__, io.TextIOBase):  # a file's `write`
            todo.append(part.__self__)
        elif is_from(cls, *_PACKAGES):
            slots = [name for base in cls.__mro__ for name in vars(base).get("__slots__", ())]
            todo += [*vars(part).values()] if hasattr(part, "__dict__") else []
            todo += [getattr(part, name, None) for name in slots if name != "__weakref__"]
        elif not is_code_of(part, *_PACKAGES, "json") and not (isinstance(part, type) and is_from(part, *_PACKAGES)):
            return False
    return True


def bound_values(logger: Any) -> dict[str, Any]:
    """What is written with each line of a logger of which `why_heard()` knows all."""
    if _is_logurus(type(logger)):
        around: Any = vars(sys.modules["loguru._logger"]).get("context")
        return {**logger._core.extra, **({} if around is None else around.get()), **logger._options[-1]}
    return {**sys.modules["structlog.contextvars"].get_contextvars(), **_parts(logger)[-1]}


def refusal(logger: Any, args: tuple[Any, ...], kwargs: dict[str, Any], bound: dict[str, Any]) -> str:
    """Why it is not known what logging plain data does; empty if it is.

    Raises:
        Exception: What the logger raises, as loguru does if the message does not go with its arguments.
    """
    if _is_logurus(type(logger)):
        if args[1:] or kwargs:
            if type(args[0]) is not str or reads_parts(args[0]):
                return "loguru's message reads attributes of what it is given"
            args[0].format(*args[1:], **kwargs)
        return ""
    values = {**bound, **kwargs}
    if len(args) != 1 or type(args[0]) is not str or not _MEANT.isdisjoint(values):
        return "structlog is told more than an event and its values"
    try:
        json.dumps(values, default=repr, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):
        return "what is logged with structlog may not be JSON"
    return ""
