"""A comparison as text, as a page, and as data."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

from .outputs import Difference
from .running import Comparison, Run

__all__ = ["as_data", "as_html", "text"]

_SHOWN = 10
"""Differences that are printed."""


def text(compared: Comparison, found: Sequence[Difference], width: int) -> Iterator[str]:
    """Both timelines, the differences, and the ratio."""
    for title, run in (("as it is", compared.before), ("parallelised", compared.after)):
        yield f"{title}: {run.how}"
        yield run.timeline.text(width)
        yield ""
    for difference in found[:_SHOWN]:
        yield f"differs at {difference.path}: {difference.before}, parallelised {difference.after}"
    if len(found) > _SHOWN:
        yield f"... and at {len(found) - _SHOWN} other places"
    yield summary(compared, found)


def summary(compared: Comparison, found: Sequence[Difference]) -> str:
    """What it comes to."""
    before, after = compared.before, compared.after
    requests = f"{before.requests} / {after.requests}" if None not in (before.requests, after.requests) else "not known"
    same = f"The outputs differ at {len(found)} place{'s' if len(found) > 1 else ''}." if found else "Same outputs."
    return (
        f"{before.seconds:.2f} s as it is, {after.seconds:.2f} s parallelised: {compared.ratio:.2f} times as fast. "
        f"LM requests: {requests}. {same}"
    )


def as_data(compared: Comparison, found: Sequence[Difference]) -> dict[str, Any]:
    """Plain data; times in seconds."""
    return {
        "same": not found,
        "ratio": compared.ratio,
        "before": _run_as_data(compared.before),
        "after": _run_as_data(compared.after),
        "differences": [vars(difference) for difference in found],
    }


def _run_as_data(run: Run) -> dict[str, Any]:
    return {"how": run.how, "seconds": run.seconds, "requests": run.requests, "figures": vars(run.timeline.figures)}


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem; color: #222; background: #fff; }}
iframe {{ width: 100%; height: 44vh; border: 1px solid #ccc; }}
td, th {{ text-align: left; padding: 0 1rem 0 0; vertical-align: top; }}
</style></head><body>
<h1>{title}</h1>
<p><b>{summary}</b></p>
<h2>As it is: <code>{before_how}</code></h2>
<iframe sandbox="allow-scripts" title="as it is" srcdoc="{before}"></iframe>
<h2>Parallelised: <code>{after_how}</code></h2>
<iframe sandbox="allow-scripts" title="parallelised" srcdoc="{after}"></iframe>
{differences}</body></html>
"""


def as_html(name: str, compared: Comparison, found: Sequence[Difference]) -> str:
    """A page with both timelines; it needs nothing else."""
    rows = "".join(
        f"<tr><td>{html.escape(d.path)}<td>{html.escape(d.before)}<td>{html.escape(d.after)}\n" for d in found
    )
    table = f"<h2>Differences</h2>\n<table><tr><th>at<th>as it is<th>parallelised\n{rows}</table>\n" if found else ""
    return _PAGE.format(
        title=html.escape(name),
        summary=html.escape(summary(compared, found)),
        before_how=html.escape(compared.before.how),
        after_how=html.escape(compared.after.how),
        before=html.escape(compared.before.timeline.html()),
        after=html.escape(compared.after.timeline.html()),
        differences=table,
    )
