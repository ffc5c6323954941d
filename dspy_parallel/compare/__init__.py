"""Somebody's own program as it is and parallelised, side by side: what `dspy-parallel compare` and `demo` show.

`two_runs` makes both, `differences` holds their outputs together, `comparison_report` shows the result.
"""

from __future__ import annotations

__all__: list[str] = []
