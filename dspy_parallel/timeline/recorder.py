"""`record()`: what runs in a block of code, as a timeline."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from types import FrameType
from typing import Any

from .. import events
from ..events import OpenSpan
from ..loop_monitor import BlockedSlice, LoopMonitor
from ..seams.call_spans import watching
from .files import check_writable
from .langchain_listener import listen_to_langchain
from .spans import Span, frozen
from .texts import Texts
from .timelines import ENDINGS, Timeline

__all__ = ["Recorder", "record"]


def program_name() -> str:
    """The script or module that this process runs; empty where it is none."""
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    return str(spec.name).removesuffix(".__main__") if spec is not None else os.path.basename(file or "")


class Recorder:
    """Collects spans for one timeline."""

    def __init__(self, texts: Texts | None) -> None:
        self.is_open = True
        self.outer = events.current()
        self.began = time.perf_counter()
        self.ended: float | None = None
        self.spans: list[OpenSpan] = []
        self.root = OpenSpan(self, self.outer, "", "", None, {})
        self.runs: dict[Any, OpenSpan] = {}
        """LangChain's runs under way, by their identifiers."""
        self._frozen: list[Span] | None = None
        self.told = None if texts is None else texts.keep
        """Called with a call that has ended and what was said in it, if that is asked for."""
        self._threads: dict[int, str] = {}
        self._monitor = LoopMonitor(self._blocked)
        self._loop: asyncio.AbstractEventLoop | None = None

    def opened(self, span: OpenSpan) -> None:
        """Take a span that has begun, or one that is over."""
        self.spans.append(span)
        if span.thread not in self._threads:
            self._threads[span.thread] = threading.current_thread().name
        self.look_for_loop()

    def look_for_loop(self) -> None:
        """Have the running event loop watched, here and in the recordings around this one."""
        loop = asyncio._get_running_loop()
        if loop is not None and loop is not self._loop:
            self._monitor.watch(loop)
            self._loop = loop  # the same one again, as a rule
            around = self._around()
            if around is not None:
                around.look_for_loop()

    def _blocked(self, found: BlockedSlice, frame: FrameType) -> None:
        code = frame.f_code
        function: str = getattr(code, "co_qualname", code.co_name)
        name = f"{os.path.basename(code.co_filename)}:{found.line} in {function}"
        facts = {"file": code.co_filename, "line": found.line, "function": function}
        span = OpenSpan(self, self.root, "blocked", name, None, facts)
        span.start, span.end, span.thread = found.start, found.end, found.thread
        self.spans.append(span)

    def close(self) -> None:
        """Take no more spans; hand those there are to the recording around this one."""
        self._monitor.stop()
        self.ended = time.perf_counter()
        self.is_open = False
        around = self._around()
        if around is not None:
            # What blocked a loop it has seen itself.
            around.spans.extend(span for span in self.spans if span.kind != "blocked")
            for ident, name in self._threads.items():
                around._threads.setdefault(ident, name)

    def _around(self) -> Recorder | None:
        """The recording around this one, while it is open."""
        around = None if self.outer is None else self.outer.recording
        return around if isinstance(around, Recorder) and around.is_open else None

    def frozen(self) -> list[Span]:
        """What there is so far; once the block has been left, always the same."""
        if self._frozen is not None:
            return self._frozen
        now = time.perf_counter() if self.ended is None else self.ended
        with_text = self.told is not None
        spans = frozen(list(self.spans), self.began, now, dict(self._threads), with_text=with_text)
        if self.ended is not None:
            self._frozen = spans
        return spans


def _shown(recorder: Recorder) -> AbstractContextManager[None]:
    from .live_view import live_view  # with limits, which most recordings have no use for

    return live_view(recorder.spans)


@contextmanager
def record(
    *,
    include_text: bool = False,
    everywhere: bool = False,
    save: str | os.PathLike[str] | None = None,
    live: bool = False,
) -> Generator[Timeline]:
    """Get a timeline of what runs in the block: modules, LM calls and their waits, tools, graphs, blocked loops.

    It sees what the block starts, in its tasks, in bridged programs, in graphs, and in the threads of the bridge, of
    LangGraph, of `dspy.Parallel`, of `asyncio.to_thread` and of executors; not what other requests of a server do
    meanwhile, unless they record, too. Results, exceptions, callbacks, settings, caches and connection pools are what
    they are without it. Blocks nest; the outer one has the spans of the inner one, too. What a task does after the
    block is not recorded.

    Args:
        include_text: Whether to keep what modules, LMs and tools are given and return, shortened, without keys. By
            default a timeline has no text of that kind, only names, types, times and places in the code.
        everywhere: Whether to record the whole process: also threads that were started by other means, and what
            others do.
        save: The file to write when the block is left, also by an error; of a kind that `Timeline.save()` knows.
        live: Whether to show what is in flight, waiting and done, while the block runs and stderr is a terminal. It
            needs rich, which the extra `cli` has.

    Yields:
        The timeline, which can be looked at at any time, and stays when the block is left.

    Raises:
        TimelineError: If it cannot be saved under that name.
        TargetError: If the file cannot be written.
        MissingExtraError: If it is to be shown, and rich is not installed.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import record

        with dspy.context(lm=DummyLM([{"answer": "four"}])), record() as timeline:
            dspy.Predict("question -> answer")(question="2 + 2?")
        assert [span.kind for span in timeline.spans] == ["predictor", "lm"]
        print(timeline)
        ```
    """
    if save is not None:
        check_writable(save, *ENDINGS)
    listen_to_langchain()
    recorder = Recorder(Texts() if include_text else None)
    timeline = Timeline(recorder.frozen, program_name(), datetime.now().astimezone())
    recorder.look_for_loop()
    token = events.innermost.set(recorder.root)
    try:
        with (
            _shown(recorder) if live else nullcontext(),
            watching(),
            events.everywhere(recorder.root) if everywhere else nullcontext(),
        ):
            yield timeline
    finally:
        recorder.close()
        if save is not None:
            timeline.save(save)
        try:
            events.innermost.reset(token)
        except ValueError:  # an async generator that is closed in another context
            pass
