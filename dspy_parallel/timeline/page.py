"""A timeline as one HTML page: data, style and script in it, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from ..display import KINDS, OTHER
from ..escapes import escaped
from .critical_path import critical_path
from .figures import busy_pieces, figures_of
from .rows import rows_of
from .spans import Span

__all__ = ["frame", "page"]

_HERE = Path(__file__).parent
MICRO = 1_000_000


def page(spans: Sequence[Span], program: str = "", began: datetime | None = None) -> str:
    """The page. Its policy lets the browser run this script and no other, and reach no network.

    Args:
        spans: Of a timeline.
        program: What ran.
        began: And when.
    """
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'"
    title = html.escape(escaped(program or "Timeline"))
    date = "" if began is None else f'<time datetime="{began.isoformat()}">{began:%Y-%m-%d %H:%M:%S %Z}</time>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · timeline</title>
<style>
{(_HERE / "page.css").read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>{title}{date}</h1>
<dl id="figures">{_figures(spans)}</dl>
<div id="tools">
<input id="search" type="search" placeholder="Search (/), Enter for the next" aria-label="Search spans by name or kind">
<span id="found" role="status"></span>
<button id="in" title="Zoom in (+, or Ctrl and the wheel)">+</button>
<button id="out" title="Zoom out (-)">−</button>
<button id="fit" title="Everything (0)">Fit</button>
<button id="path" aria-pressed="true" title="Mark what the length of the whole comes from (c)">Critical path</button>
<button id="theme" title="Light or dark ground (d)">Light/dark</button>
<div id="legend"></div>
</div>
</header>
<main>
<div id="scroll"><div id="rows"></div>
<canvas id="canvas" role="img" tabindex="0" aria-label="{_described(spans)}"></canvas></div>
<aside id="details" aria-live="polite" hidden></aside>
</main>
<div id="hint" hidden></div>
<script type="application/json" id="data">{_data(spans)}</script>
<script>{script}</script>
</body>
</html>
"""


def frame(content: str, height: int = 520) -> str:
    """The page inside another one, which it can neither change nor read.

    Args:
        content: The page.
        height: Pixels.
    """
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(content)}" title="Timeline" '
        f'style="width: 100%; height: {height}px; border: 1px solid #8884; border-radius: 6px"></iframe>'
    )


def _figures(spans: Sequence[Span]) -> str:
    figures = figures_of(spans)
    shown = {
        "makespan": f"{figures.makespan:,.2f} s",
        "LM time": f"{figures.lm_seconds:,.2f} s",
        "parallelism": f"{figures.parallelism:,.2f}",
        "LM calls": f"{figures.lm_calls:,}",
        "peak in flight": f"{figures.peak_in_flight:,}",
        "on the critical path": f"{figures.critical_seconds:,.2f} s of LM calls",
        "cached": f"{figures.cached:,}" if figures.cached else "",
        "retries": f"{figures.retries:,}" if figures.retries else "",
        "blocked": f"{figures.blocked_seconds:,.2f} s" if figures.blocked_seconds else "",
        "waiting for limits": f"{figures.limit_seconds:,.2f} s" if figures.limit_seconds >= 0.01 else "",
        "waiting for connections": f"{figures.connection_seconds:,.2f} s" if figures.connection_seconds >= 0.01 else "",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown.items() if value)


def _described(spans: Sequence[Span]) -> str:
    figures = figures_of(spans)
    return (
        f"Timeline of {len(spans)} spans over {figures.makespan:.2f} seconds, {figures.lm_calls} LM calls. "
        "Arrow keys up and down go from one to the next; left and right, plus and minus move and zoom."
    )


def _data(spans: Sequence[Span]) -> str:
    """The spans by columns, which are a third as long as objects; each text once."""
    kinds, kind = _numbered([span.kind for span in spans])
    names, name = _numbered([escaped(span.name) for span in spans])
    threads, thread = _numbered([escaped(span.thread) for span in spans])
    rows, figures = rows_of(spans), figures_of(spans)
    begin = min((span.start for span in spans), default=0.0)
    starts = [round((span.start - begin) * MICRO) for span in spans]
    columns: dict[str, Any] = {
        **{"kinds": kinds, "kind": kind, "names": names, "name": name, "threads": threads, "thread": thread},
        "start": starts,
        "length": [round((s.end - begin) * MICRO) - start for s, start in zip(spans, starts, strict=True)],
        "parent": [-1 if span.parent is None else span.parent for span in spans],
        "row": rows,
        "facts": {span.id: _facts(span) for span in spans if span.facts},
        "rows": max(rows, default=-1) + 1,
        "total": round(max((s.end - begin for s in spans), default=0.0) * MICRO),
        "critical": sorted({segment.span for segment in critical_path(spans)}),
        "busy": [[round((moment - begin) * MICRO) for moment in piece] for piece in busy_pieces(spans)],
        "peak": figures.peak_in_flight,
        "colours": [KINDS.get(kind, OTHER)[1:] for kind in ("critical", *kinds)],
    }
    # Not one "<" is left: no text can end the element that it is in, or begin another.
    return json.dumps(columns, separators=(",", ":"), default=str).replace("<", "\\u003c")


def _facts(span: Span) -> dict[str, Any]:
    return {
        escaped(name): escaped(value, keep="\n\t") if isinstance(value, str) else value
        for name, value in span.facts.items()
    }


def _numbered(texts: Sequence[str]) -> tuple[list[str], list[int]]:
    """Each text once, and the texts' places among these."""
    places = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return [*places], [places[text] for text in texts]
