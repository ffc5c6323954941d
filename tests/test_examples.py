"""The examples run with one command, without a key, and show what they are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent


def output_of(name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"examples.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_picture_of_the_readme(tmp_path):
    """It is what the script draws."""
    output_of("before_after", str(tmp_path / "drawn.svg"))

    def labels(path: Path) -> list[str]:
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))
        return [text for text in texts if not re.fullmatch(r"[\d.]+( s)?", text)]

    def seconds(path: Path) -> list[float]:
        return [float(text) for text in re.findall(r">([\d.]+) s</text>", path.read_text(encoding="utf-8"))]

    committed, drawn = ROOT / "docs" / "before-after.svg", tmp_path / "drawn.svg"
    assert labels(committed) == labels(drawn)
    assert {"before", "after", "judge · openai/any"} <= set(labels(drawn))
    assert seconds(committed) == pytest.approx(seconds(drawn), abs=0.5)


def test_migration():
    """The version with the decorator makes the same requests, and gets the same."""
    shown = output_of("migration")
    before, after = re.findall(r"^(?:before|after) .* (\d+) LM requests, (\d+) lines", shown, re.MULTILINE)
    assert before[0] == after[0]
    assert int(after[1]) < int(before[1])
    assert shown.endswith("same result\n")


def test_streaming():
    shown = output_of("streaming")
    assert "at once: 3" in shown
    assert shown.endswith("the server saw the connection close\n")
    readers = [line.split()[0] for line in shown.splitlines()]
    first, last = readers.index("second"), len(readers) - 1 - readers[::-1].index("second")
    assert {"first", "third"} <= set(readers[first:last]), "the three take turns"


def test_notebook():
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name)
    shown = output_of("notebook")
    assert "3 reviews, 9 LM calls, 6 at once" in shown
    assert "characters of HTML" in shown
    assert shown.endswith("5 more by batch(), equal to sync calls\n")
