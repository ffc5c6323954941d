"""The examples run with one command, without a key, and show what they are for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.children import PRELOADED

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parent.parent


def output_of(name: str, *arguments: str) -> str:
    command = [*PRELOADED, "-m", f"examples.{name}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def texts_of(path: Path) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text(encoding="utf-8"))


def labels_of(path: Path) -> list[str]:
    return [text for text in texts_of(path) if not re.fullmatch(r"[\d.]+( s)?", text)]


def test_picture(tmp_path):
    """It is what the script draws."""
    output_of("before_after", str(tmp_path / "drawn.svg"))
    assert labels_of(ROOT / "docs" / "before-after.svg") == labels_of(tmp_path / "drawn.svg")


def test_picture_of_a_graph(tmp_path):
    """It is what the script draws. (A node's calls are drawn in it only if the node was there before the scout.)"""
    pytest.importorskip("langgraph.graph")
    output_of("before_after", str(tmp_path / "drawn.svg"), "graph")
    committed, drawn = labels_of(ROOT / "docs" / "before-after-graph.svg"), labels_of(tmp_path / "drawn.svg")
    after = drawn.index("after")
    assert committed[: after + 1] == drawn[: after + 1]
    assert {"time", "nontime", "vector", "merge"} <= set(drawn[after:])
    for extractor in ("TimePropertyExtractor", "NonTimePropertyExtractor", "VectorSearchExtractor"):
        assert sum(label.startswith(extractor) for label in drawn[after:]) == 1, drawn


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


@pytest.fixture
def jupyter() -> None:
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name)


@pytest.mark.usefixtures("jupyter")
def test_notebook():
    shown = output_of("notebook", "parallel")
    assert "3 reviews, 9 LM calls, 6 at once" in shown
    assert "characters of HTML" in shown
    assert shown.endswith("5 more by batch(), equal to sync calls\n")


@pytest.mark.usefixtures("jupyter")
def test_notebook_that_compares():
    shown = output_of("notebook", "compare")
    assert shown.count("characters of HTML") == 2, "both timelines"
    assert "1 and 3 LM calls at once, the same query:" in shown
    assert "RETURN n, score" in shown


def test_langchain_agent():
    pytest.importorskip("langchain.agents")
    shown = output_of("langchain_agent", "--agents", "3")
    assert shown.count("15 LM requests") == 2
    assert shown.endswith("same messages\n")
