"""A timeline: spans, what they come to, and the ways to look at them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..display import plain, styled
from .critical_path import Segment, critical_path
from .figures import Figures, figures_of
from .files import as_json, check_writable, chrome_trace, from_json, write_private
from .page import frame, page
from .picture import svg
from .spans import Span
from .terminal import chart

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["ENDINGS", "Timeline"]

HTML_SPANS_IN_NOTEBOOKS = 20_000
"""A notebook keeps what it shows: beyond this, a picture of the timeline is not worth its megabytes there."""


class Timeline:
    """What ran when, as `record()` gives it, or `Timeline.load()`.

    It can be read from any thread. While the recording goes on, each look at it finds what there is by then.

    Example:
        ```python
        import tempfile
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import Timeline, record

        with dspy.context(lm=DummyLM([{"answer": "four"}])), record() as timeline:
            dspy.Predict("question -> answer")(question="2 + 2?")
        assert timeline.figures.lm_calls == 1
        with tempfile.TemporaryDirectory() as folder:
            timeline.save(f"{folder}/run.html")  # zoom, hover, search; also *.svg, *.trace.json for Perfetto, and:
            timeline.save(f"{folder}/run.json")
            assert Timeline.load(f"{folder}/run.json").figures.lm_calls == 1
        ```
    """

    def __init__(self, source: Callable[[], list[Span]], program: str = "", began: datetime | None = None) -> None:
        self._source = source
        self._about = program, began

    @classmethod
    def of(cls, spans: list[Span]) -> Timeline:
        """A timeline of these spans, ordered by start and numbered from 0 on."""
        return cls(lambda: spans)

    @property
    def spans(self) -> list[Span]:
        """All spans, by time of start."""
        return self._source()

    @property
    def lm_calls(self) -> list[Span]:
        """The LM calls among them."""
        return [span for span in self.spans if span.kind == "lm"]

    @property
    def figures(self) -> Figures:
        """What they come to."""
        return figures_of(self.spans)

    @property
    def critical_path(self) -> list[Segment]:
        """The chain of spans that the makespan comes from."""
        return critical_path(self.spans)

    def html(self) -> str:
        """A page that needs nothing else: with zoom, search, and details of each span."""
        return page(self.spans, *self._about)

    def svg(self, *, width: int = 960, title: str = "", figures: bool = True) -> str:
        """A picture, for a README.

        Args:
            width: Pixels.
            title: What stands above it.
            figures: Whether they stand below it, and the critical path is marked.
        """
        return svg(self.spans, width=width, title=title, figures=figures)

    def chrome_trace(self) -> str:
        """JSON that https://ui.perfetto.dev and chrome://tracing open."""
        return chrome_trace(self.spans)

    def text(self, width: int = 100) -> str:
        """A chart for a terminal, without colours.

        Args:
            width: Columns.
        """
        return plain(chart(self.spans, width))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file of the kind that its name says, for its owner only (mode 0600).

        Args:
            path: `*.html`, `*.svg`, `*.txt`, `*.trace.json` for trace viewers, or `*.json` for `Timeline.load()`.

        Raises:
            TimelineError: If its name says another kind.
            OSError: If it cannot be written.
        """
        check_writable(path, *ENDINGS)
        name = os.fspath(path)
        write_private(path, next(make(self) for ending, make in ENDINGS.items() if name.endswith(ending)))

    def _json(self) -> str:
        return as_json(self.spans, *self._about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Timeline:
        """Read what `save("name.json")` has written; harmless whoever wrote the file.

        Args:
            path: The file.

        Raises:
            TimelineError: If it is no timeline.
            OSError: If it cannot be read.
        """
        spans, program, began = from_json(Path(path).read_bytes(), os.fspath(path))
        return cls(lambda: spans, program, began)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        figures = self.figures
        return f"<Timeline: {figures.lm_calls} LM calls in {figures.makespan:.2f} s, {len(self.spans)} spans>"

    def __rich_console__(self, console: Any, options: Any) -> Any:
        yield self._rich(options.max_width)

    def _rich(self, width: int) -> Text:
        return styled(chart(self.spans, width))

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        spans = self.spans
        if len(spans) > HTML_SPANS_IN_NOTEBOOKS:
            return svg(spans, width=960, title=f"{len(spans):,} spans; save them as .html to zoom")
        return frame(page(spans, *self._about))


ENDINGS: dict[str, Callable[[Timeline], str]] = {
    ".html": Timeline.html,
    ".svg": Timeline.svg,
    ".txt": lambda timeline: f"{timeline.text()}\n",
    ".trace.json": Timeline.chrome_trace,
    ".json": Timeline._json,
}
"""What a file is that is called so."""
