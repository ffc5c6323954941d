"""Benchmarks, all of them ratios taken side by side: `python -m benchmarks`. See docs/benchmarks.md."""

from __future__ import annotations

from benchmarks.machine import prepare

prepare()  # before anything here imports DSPy
