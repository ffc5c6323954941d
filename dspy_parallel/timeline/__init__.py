"""What ran when: recorded, counted, drawn."""

from __future__ import annotations

from .critical_path import Segment
from .figures import Figures
from .recorder import record
from .spans import Span
from .timelines import Timeline

__all__ = ["Figures", "Segment", "Span", "Timeline", "record"]
