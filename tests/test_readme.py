"""The README's first screen says what this is, shows it, and has two commands that work; `.ci/run` runs both."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from tests.support.examples import REPOSITORY, ROOT, blocks_of

pytestmark = pytest.mark.once

README = ROOT / "README.md"
SCREEN = 45
"""Lines."""


def commands() -> list[str]:
    return [line[2:] for block in blocks_of(README, "console") for line in block.text.splitlines() if line[:2] == "$ "]


def test_the_first_screen():
    """In this order: one sentence, before and after as picture and code, two commands, what won't work."""
    shown = "\n".join(README.read_text(encoding="utf-8").splitlines()[:SCREEN])
    title, sentence, picture, *_ = shown.split("\n\n")
    assert title == "# dspy-parallel"
    assert re.fullmatch(r"[^.\n]+\.", sentence), "one sentence on one line"
    path = re.fullmatch(rf"!\[[^\]]+\]\(({REPOSITORY.pattern}[^)]+)\)", picture)
    assert path is not None
    assert (ROOT / REPOSITORY.sub("", path[1])).exists()
    code = blocks_of(README, "python")[0].text
    parts = [code, *(f"$ {command}" for command in commands()[:2]), "**What won't work:**"]
    places = [shown.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert "before = " in code
    assert "after = " in code


def test_the_readme_leads_into_the_users_project():
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## Add it to your project") :].split("\n## ")[0]
    assert "docs/six-steps.md" in section
    assert "$ pip install" in section
    assert "pip install -e" in section, "from a checkout, too"


def test_what_is_gained_is_what_was_measured():
    """`python -m benchmarks.situations --save` writes the figures."""
    figures = json.loads((ROOT / "docs" / "figures.json").read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    section = text[text.index("## What is gained") :].split("\n## ")[0]
    rows = [[re.findall(r"[\d.]+ s\b", cell) for cell in row.split("|")[2:4]] for row in section.splitlines()]
    shown = [list(pair) for row in rows if len(row) == 2 for pair in zip(*row, strict=True)]
    assert shown == list(figures.values())


def test_ci_runs_the_commands():
    """Word for word: what a newcomer types is what is checked."""
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for name, command in zip(("DEMO_COMMAND", "TEST_COMMAND"), commands()[:2], strict=True):
        assert f'{name}="{command}"' in ci or f"{name}={shlex.quote(command)}" in ci, name
