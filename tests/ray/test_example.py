"""The example: a Parquet file through two workers of a cluster of its own, of which one is killed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")

pytestmark = pytest.mark.timeout(300)

ROWS, IN_FLIGHT = 300, 50


def test_only_rows_in_flight_are_asked_for_again() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.ray", str(ROWS)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^kill -9 \d+$", done.stdout, re.MULTILINE)
    told = re.search(rf"{ROWS} rows by [23] workers in .*; (\d+) LM calls$", done.stdout, re.MULTILINE)
    assert told is not None, done.stdout
    assert ROWS <= int(told[1]) <= ROWS + IN_FLIGHT
