"""What is going on, for whoever records it; nobody, most of the time.

Code that has something to show opens a span, or adds one that is over already. Nothing is recorded where
`current()` is None, which is one look at a context variable. That variable holds the innermost open span, so a
span's parent is right in every task, thread and program that has the context it was started in.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

__all__ = [
    "OpenSpan",
    "Recording",
    "begin",
    "carried",
    "current",
    "end",
    "everywhere",
    "note",
    "span",
    "stopped",
    "waited",
]

T = TypeVar("T")

SHORT_SECONDS = 0.0005
"""Shorter waits are none: a free connection, an empty queue."""


class Recording(Protocol):
    """Takes spans."""

    is_open: bool
    outer: OpenSpan | None
    """The innermost span when this recording began, of a recording around it."""

    def opened(self, span: OpenSpan) -> None:
        """A span has begun; called in its thread, at a rate that allows for little."""


class OpenSpan:
    """A span that is, or was, under way.

    Attributes:
        recording: Whom it belongs to.
        parent: The span that it is a part of; None for the recording as a whole.
        kind: `"module"`, `"lm"`, `"wait"` and so on, see `dspy_parallel.timeline.Span`.
        name: For people.
        start: `time.perf_counter()` seconds.
        end: The same; None while it is open.
        thread: The thread that it began in.
        owner: The module, LM or tool that runs; kept only while it is open.
        subject: Its identity, which tells whether two spans are of the same.
        facts: What else is known.
    """

    __slots__ = ("end", "facts", "kind", "name", "owner", "parent", "recording", "start", "subject", "thread")

    def __init__(
        self, recording: Recording, parent: OpenSpan | None, kind: str, name: str, owner: Any, facts: dict[str, Any]
    ) -> None:
        self.recording = recording
        self.parent = parent
        self.kind = kind
        self.name = name
        self.owner = owner
        self.subject = id(owner)
        self.facts = facts
        self.thread = threading.get_ident()
        self.end: float | None = None
        self.start = time.perf_counter()


innermost: ContextVar[OpenSpan | None] = ContextVar("dspy_parallel_span", default=None)
_everywhere: list[OpenSpan] = []


def current() -> OpenSpan | None:
    """The innermost open span that the running code is in; None if nothing records it."""
    span = innermost.get()
    while span is not None:
        if not span.recording.is_open:  # a task that has outlived its recording
            span = span.recording.outer
        elif span.end is not None:
            # Left open in this context: LangGraph ends a step's last node in another one than it began in, and what
            # the same task does next, the conversation's next turn for instance, is no part of that node.
            span = span.parent
        else:
            break
    if span is None and _everywhere:
        return _everywhere[-1]
    return span


@contextmanager
def everywhere(root: OpenSpan) -> Generator[None]:
    """Record also what runs in contexts of which no recording knows."""
    _everywhere.append(root)
    try:
        yield
    finally:
        _everywhere.remove(root)


def begin(parent: OpenSpan, kind: str, name: str, owner: Any = None, **facts: Any) -> OpenSpan:
    """Open a span; `parent` is what `current()` gave. Every `begin()` has its `end()`, in the same context."""
    opened = OpenSpan(parent.recording, parent, kind, name, owner, facts)
    parent.recording.opened(opened)
    innermost.set(opened)
    return opened


def end(opened: OpenSpan, error: BaseException | None = None) -> None:
    """Close a span."""
    opened.end = time.perf_counter()
    opened.owner = None
    if error is not None:
        opened.facts["error"] = type(error).__name__
    # Not by a token, which is of no use where a coroutine is closed in another context than it ran in.
    if innermost.get() is opened:
        innermost.set(opened.parent)


@contextmanager
def span(kind: str, name: str, **facts: Any) -> Generator[None]:
    """Record the block, if anybody does."""
    parent = current()
    if parent is None:
        yield
        return
    opened = begin(parent, kind, name, **facts)
    try:
        yield
    except BaseException as error:
        end(opened, error)
        raise
    end(opened)


def waited(name: str, start: float, **facts: Any) -> None:
    """Record a wait that is over, if anybody does.

    Args:
        name: What for: `"limit"`, `"connection"`, `"reply"`, `"equal call"`.
        start: When it began; `time.perf_counter()` seconds.
        **facts: What else is known.
    """
    parent = current()
    if parent is None:
        return
    ended = time.perf_counter()
    if ended - start < SHORT_SECONDS and name != "reply":  # replies are counted
        return
    wait = OpenSpan(parent.recording, parent, "wait", name, None, facts)
    wait.start, wait.end = start, ended
    parent.recording.opened(wait)


def stopped(place: tuple[str, int] | None, why: str) -> None:
    """Record where overlap had to stop, and why, if anybody does."""
    parent = current()
    if parent is None or place is None:
        return
    name = f"{os.path.basename(place[0])}:{place[1]}: {why}"
    stop = OpenSpan(parent.recording, parent, "stop", name, None, {"file": place[0], "line": place[1]})
    stop.end = stop.start
    parent.recording.opened(stop)


def note(kind: str, **facts: Any) -> None:
    """Add to what is known of the innermost span of this kind."""
    found = current()
    while found is not None and found.kind != kind:
        found = found.parent
    if found is not None:
        found.facts.update(facts)


def carried(fn: Callable[..., T]) -> Callable[..., T]:
    """The same function, for a thread that does not get the caller's context: its spans belong to the caller's."""
    parent = current()
    if parent is None:
        return fn

    def inside(*args: Any, **kwargs: Any) -> T:
        if innermost.get() is not None:  # it did get a context, and knows better
            return fn(*args, **kwargs)
        token = innermost.set(parent)
        try:
            return fn(*args, **kwargs)
        finally:
            innermost.reset(token)

    return inside
