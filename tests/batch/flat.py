"""Rows that are generated, run and dropped; prints how memory goes. The script of test_memory.py.

python -m tests.batch.flat ROWS [FILE]
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from typing import Any

import dspy

from dspy_parallel import await_, iter_batch


class Echo(dspy.Module):
    """A stub LM and no formatting: a row costs little more than the way it is run."""

    def forward(self, text: str) -> Any:
        return dspy.Prediction(text=await_(reply(text)))


async def reply(text: str) -> str:
    return text.upper()


def rows(count: int) -> Iterator[dict[str, str]]:
    for number in range(count):
        yield {"text": f"row {number} " + "x" * 200}


def resident() -> float:
    """Megabytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def main(count: int, file: str | None) -> None:
    started = time.monotonic()
    seen = 0
    for item in iter_batch(Echo(), rows(count), max_in_flight=100, progress=False, resume=file):
        assert item.result.text.startswith("ROW")
        seen += 1
        if seen % (count // 10) == 0:
            gc.collect()
            print(f"{seen} {resident():.1f} {time.monotonic() - started:.1f}", flush=True)
    assert seen == count


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
