"""A comparison as lines for a terminal, as a page, and as data."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

from ..display import Line
from ..escapes import escaped
from ..timeline.page import page
from ..timeline.terminal import chart
from .two_runs import Comparison, Run

__all__ = ["as_data", "as_html", "lines", "summary"]

_SHOWN = 10
"""Differences that are printed."""


def lines(compared: Comparison, width: int) -> Iterator[Line]:
    """Both timelines, where overlap stopped, the differences, and the ratio."""
    for title, run in (("as it is", compared.before), ("parallelised", compared.after)):
        yield [(escaped(f"{title}: {run.how}"), "bold")]
        yield from chart(run.timeline.spans, width, whole=True)
        yield []
    for stop in compared.after.stops[:_SHOWN]:
        yield [(f"overlap stopped at {escaped(stop)}", "tool")]
    for difference in compared.different[:_SHOWN]:
        text = f"differs at {difference.path}: {difference.before}, parallelised {difference.after}"
        yield [(escaped(text), "bad")]
    if len(compared.different) > _SHOWN:
        yield [(f"... and at {len(compared.different) - _SHOWN} other places", "bad")]
    yield [(escaped(summary(compared)), "bad" if compared.different else "good")]


def summary(compared: Comparison) -> str:
    """What it comes to."""
    before, after, different, fickle = compared.before, compared.after, len(compared.different), len(compared.fickle)
    requests = f"{before.requests} / {after.requests}" if None not in (before.requests, after.requests) else "not known"
    same = f"The outputs differ at {_places(different)}." if different else "Same outputs."
    if fickle:
        same += f" ({_places(fickle)} not counted: two runs as it is differ there, too.)"
    return (
        f"{before.seconds:.2f} s as it is, {after.seconds:.2f} s parallelised: {compared.ratio:.2f} times as fast. "
        f"LM requests: {requests}. {same}"
    )


def _places(count: int) -> str:
    return f"{count} place{'s' if count > 1 else ''}"


def as_data(compared: Comparison) -> dict[str, Any]:
    """Plain data; times in seconds."""
    return {
        "same": not compared.different,
        "ratio": compared.ratio,
        "before": _run_as_data(compared.before),
        "after": _run_as_data(compared.after),
        "differences": [vars(difference) for difference in compared.different],
        "not_counted": [vars(difference) for difference in compared.fickle],
    }


def _run_as_data(run: Run) -> dict[str, Any]:
    figures = vars(run.timeline.figures)
    return {"how": run.how, "seconds": run.seconds, "requests": run.requests, "figures": figures, "stops": run.stops}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: CanvasText; background: Canvas; }}
iframe {{ width: 100%; height: 44vh; border: 1px solid #8886; }}
td, th {{ text-align: left; padding: 0 1rem 0 0; vertical-align: top; }}
</style></head><body>
<h1>{title}</h1>
<p><b>{summary}</b></p>
{stops}<h2>As it is: <code>{before_how}</code></h2>
<iframe sandbox="allow-scripts" title="as it is" srcdoc="{before}"></iframe>
<h2>Parallelised: <code>{after_how}</code></h2>
<iframe sandbox="allow-scripts" title="parallelised" srcdoc="{after}"></iframe>
{differences}</body></html>
"""


def as_html(name: str, compared: Comparison) -> str:
    """A page with both timelines; it needs nothing else."""
    rows = "".join(f"<tr><td>{_text(d.path)}<td>{_text(d.before)}<td>{_text(d.after)}\n" for d in compared.different)
    stops = "".join(f"<li>{_text(stop)}\n" for stop in compared.after.stops)
    table = f"<h2>Differences</h2>\n<table><tr><th>at<th>as it is<th>parallelised\n{rows}</table>\n" if rows else ""
    return _PAGE.format(
        title=_text(name),
        summary=_text(summary(compared)),
        before_how=_text(compared.before.how),
        after_how=_text(compared.after.how),
        before=html.escape(page(compared.before.timeline.spans, f"{name}, as it is")),
        after=html.escape(page(compared.after.timeline.spans, f"{name}, parallelised")),
        differences=table,
        stops=f"<p>Overlap stopped at</p>\n<ul>\n{stops}</ul>\n" if stops else "",
    )


def _text(text: str) -> str:
    return html.escape(escaped(text))
