"""Memory does not grow with the number of rows, with and without a resume file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def measured(*arguments: str, timeout: float) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.batch.flat", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    return [float(line.split()[1]) for line in done.stdout.splitlines()]


@pytest.mark.once
def test_memory_is_flat(tmp_path: Path) -> None:
    megabytes = measured("10000", str(tmp_path / "rows.jsonl"), timeout=110)
    # The rows alone are 2.5 MB.
    assert megabytes[-1] - megabytes[2] < 1.5


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("resumed", [False, True])
def test_memory_is_flat_over_a_million_rows(tmp_path: Path, resumed: bool) -> None:
    megabytes = measured("1000000", *([str(tmp_path / "rows.jsonl")] if resumed else []), timeout=1700)
    assert megabytes[-1] - megabytes[0] < 10
