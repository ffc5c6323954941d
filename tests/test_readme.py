"""The README's first screen says what this is, shows it, and has two commands that work; `.ci/run` runs both."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.examples import ROOT, blocks_of

pytestmark = pytest.mark.once

README = ROOT / "README.md"
SCREEN = 45
"""Lines."""


def commands() -> list[str]:
    return [line[2:] for block in blocks_of(README, "console") for line in block.text.splitlines() if line[:2] == "$ "]


def test_the_first_screen():
    """In this order: one sentence, the picture, the command that tries it, the tests, what won't work."""
    shown = "\n".join(README.read_text(encoding="utf-8").splitlines()[:SCREEN])
    title, sentence, picture, *_ = shown.split("\n\n")
    assert title == "# dspy-parallel"
    assert re.fullmatch(r"[^.\n]+\.", sentence), "one sentence on one line"
    path = re.fullmatch(r"!\[[^\]]+\]\(([^)]+)\)", picture)
    assert path is not None
    assert (ROOT / path[1]).exists()
    parts = [*(f"$ {command}" for command in commands()), "**What won't work:**"]
    assert len(parts) == 3
    places = [shown.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


def test_ci_runs_the_commands():
    """Word for word: what a newcomer types is what is checked."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for name, command in zip(("DEMO_COMMAND", "TEST_COMMAND"), commands(), strict=True):
        assert f'{name}="{command}"' in ci or f"{name}={shlex.quote(command)}" in ci, name
