"""A timeline as SVG, for a README: no script, no style sheet, nothing that a sanitizer would take away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

from ..display import KINDS, OTHER
from ..escapes import escaped, shortened
from .critical_path import critical_path
from .groups import Group, groups_of, marks_of
from .spans import Span
from .summary import summary

__all__ = ["svg"]

ROW = 22
MARGIN = 10
MAX_LINES = 60
MAX_BARS = 2000
"""In one line; a picture has no more pixels anyway."""


def svg(spans: Sequence[Span], *, width: int = 960, title: str = "", figures: bool = True) -> str:
    """The picture.

    Args:
        spans: Of a timeline.
        width: Pixels.
        title: What stands above it.
        figures: Whether they stand below it, and the critical path is marked.
    """
    begin = min((s.start for s in spans), default=0.0)
    total = max(max((s.end for s in spans), default=0.0) - begin, 1e-9)
    groups = groups_of(spans)
    shown = groups[:MAX_LINES]
    notes = [escaped(text) for text, _ in summary(spans) if figures] if spans else ["Nothing was recorded."]
    if len(groups) > len(shown):
        notes.insert(0, f"… and {len(groups) - len(shown)} more lines")
    top = MARGIN + (28 if title else 0)
    bottom = top + len(shown) * ROW + 26
    height = bottom + len(notes) * 19 + MARGIN
    labels = max((len(group.label) for group in shown), default=0)
    left = min(MARGIN + labels * 7 + 12, width // 3)
    scale = (width - left - 70) / total
    critical = {segment.span for segment in critical_path(spans) if figures}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-sans-serif, system-ui, sans-serif" font-size="12.5" role="img">',
        f"<title>{_text(title or 'Timeline')}</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
    ]
    if title:
        parts.append(f'<text x="{MARGIN}" y="{MARGIN + 14}" font-weight="600" fill="#1c2330">{_text(title)}</text>')
    parts += _axis(total, left, scale, top, top + len(shown) * ROW)
    for number, group in enumerate(shown):
        parts += _line(group, top + number * ROW, left, scale, begin, critical)
    for number, note in enumerate(notes):
        parts.append(f'<text x="{MARGIN}" y="{bottom + 12 + number * 19}" fill="#4a5363">{_text(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _text(text: str) -> str:
    return escape(escaped(text))


def _line(group: Group, y: int, left: int, scale: float, begin: float, critical: set[int]) -> Iterator[str]:
    indent = min(group.depth * 12, 60)
    room = max((left - MARGIN - indent) // 7, 4)
    yield (f'<text x="{MARGIN + indent}" y="{y + 15}" fill="#1c2330">{escape(shortened(group.label, room))}</text>')
    several = len(group.spans) > 1
    for span in group.spans[:MAX_BARS]:
        x, wide = left + (span.start - begin) * scale, max(span.seconds * scale, 1.0)
        # Those of one line that overlap show through each other.
        paint = f'fill="{KINDS.get(group.kind, OTHER).light}"' + (' fill-opacity="0.55"' if several else "")
        hint = f"{escaped(span.name)}: {span.seconds:.3f} s"
        yield (
            f'<rect x="{x:.1f}" y="{y + 3}" width="{wide:.1f}" height="{ROW - 6}" rx="2" {paint} '
            f"aria-label={quoteattr(hint)}><title>{escape(hint)}</title></rect>"
        )
        if span.id in critical:
            mark = KINDS["critical"].light
            yield f'<rect x="{x:.1f}" y="{y + ROW - 5}" width="{wide:.1f}" height="2" fill="{mark}"/>'
    end = max(span.end for span in group.spans)
    x = left + (end - begin) * scale + 5
    yield f'<text x="{x:.1f}" y="{y + 15}" fill="#6b7483" font-size="11.5">{group.seconds:.2f} s</text>'


def _axis(total: float, left: int, scale: float, top: int, bottom: int) -> Iterator[str]:
    for moment, text in marks_of(total, 8):
        x = left + moment * scale
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom + 4}" stroke="#e3e6eb"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" fill="#6b7483" font-size="11.5">{text}</text>'
