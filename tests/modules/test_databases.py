"""Real database libraries, in the first run and in later ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from tests.support.children import PRELOADED, run_child

LIBRARIES = [name for name in ("django", "peewee", "sqlalchemy") if importlib.util.find_spec(name)]


@pytest.mark.skipif(not LIBRARIES, reason="none of them is installed")
def test_databases_around_an_lm_call(tmp_path: Path) -> None:
    program = f"from tests.modules.databases import main; main({str(tmp_path)!r}, *{LIBRARIES!r})"
    child = run_child(program, python=PRELOADED, timeout=240)
    assert [json.loads(line) for line in child.out.splitlines()] == [[name, "thread", []] for name in LIBRARIES]
