"""Every planted flaw is found at its line, and nothing else; nothing is found in clean programs."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dspy_parallel import uninstall
from dspy_parallel.doctor.diagnosis import examine
from dspy_parallel.targets import load_target

HERE = Path(__file__).parent
FLAWED = sorted((HERE / "flawed").glob("[a-z]*.py"))
CLEAN = sorted((HERE / "clean").glob("[a-z]*.py"))


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seams in place before the program is imported, and nothing left on the path after it."""
    uninstall()
    monkeypatch.setattr("sys.path", [*sys.path])


def planted(file: Path) -> list[tuple[str, int]]:
    """The kinds and lines of the comments `# flaw: kind`."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return sorted(
        (kind, number) for number, line in enumerate(lines, 1) for kind in re.findall(r"# flaw: ([a-z-]+)", line)
    )


def found(file: Path) -> list[tuple[str, int]]:
    for package in ("langgraph.checkpoint.sqlite", "langgraph.graph", "requests", "httpx"):
        if package in file.read_text(encoding="utf-8"):
            pytest.importorskip(package)
    findings = examine(load_target(f"{file}:target")).findings
    assert {finding.place.file for finding in findings} <= {str(file)}
    return sorted((finding.kind, finding.place.line) for finding in findings)


@pytest.mark.parametrize("file", FLAWED, ids=lambda file: file.stem)
def test_every_planted_flaw_is_found_at_its_line_and_nothing_else(file: Path) -> None:
    assert planted(file), "plant something"
    assert found(file) == planted(file)


@pytest.mark.parametrize("file", CLEAN, ids=lambda file: file.stem)
def test_nothing_is_found_in_a_clean_program(file: Path) -> None:
    assert planted(file) == []
    assert found(file) == []


def test_there_are_enough_of_them() -> None:
    assert len(FLAWED) >= 15
    assert len(CLEAN) >= 10
