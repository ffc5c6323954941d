"""Items whose faults depend on nothing but their number, so that any program meets the same ones in any order."""

from __future__ import annotations

from typing import Any

RETRIES = 1
"""DSPy's `num_retries`: transient faults hit an item's first request, lasting ones all."""


def item(number: int) -> str:
    return f"Which number is #{number:06d}#?"


def _ending(*endings: str) -> str:
    return rf"#\d*(?:{'|'.join(endings)})#"


FAULTS: list[dict[str, Any]] = [
    # 10 % refused, half of them with Retry-After; one in 500 for ever.
    {"kind": "429", "match": _ending("[05]00"), "retry_after": 0.05},
    {"kind": "429", "match": _ending("0[0-4]"), "first": 1, "retry_after": 0.05},
    {"kind": "429", "match": _ending("0[5-9]"), "first": 1},
    # 3 % of 500 and 503, one of the three for ever.
    {"kind": "500", "match": _ending("10"), "first": 1},
    {"kind": "503", "match": _ending("11"), "first": 1},
    {"kind": "503", "match": _ending("12")},
    # 2 % resets, one of the two for ever.
    {"kind": "reset", "match": _ending("13"), "first": 1},
    {"kind": "reset", "match": _ending("14")},
    # 1 % stalls past the timeout, half of them for ever.
    {"kind": "stall", "match": _ending("[02468]15")},
    {"kind": "stall", "match": _ending("15"), "first": 1},
    # 1 % truncated bodies, half of them for ever.
    {"kind": "truncated", "match": _ending("[02468]16")},
    {"kind": "truncated", "match": _ending("16"), "first": 1},
]


def is_faulty(number: int) -> bool:
    return number % 100 <= 16
