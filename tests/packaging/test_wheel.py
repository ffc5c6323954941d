"""The built wheel in fresh environments: with no extra, and with each alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import ROOT, environment, packages, run

EXTRAS = "cli", "langgraph", "limits", "testing"
"""Not `ray`, which is large: its own tests install it."""

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(900)]


def test_no_extra(bare: Path, tmp_path: Path) -> None:
    """Every name is there, or says which extra it needs."""
    run(bare, ROOT / "tests" / "packaging" / "touch_names.py", cwd=tmp_path)


@pytest.mark.parametrize("extra", EXTRAS)
def test_one_extra_alone(bare: Path, wheel: Path, extra: str, tmp_path: Path) -> None:
    """What the extra declares is enough for it. Its environment sees that of the wheel."""
    python = environment(tmp_path / "environment")
    (packages(python) / "bare.pth").write_text(f"{packages(bare)}\n")
    run(python, "-m", "pip", "install", "-q", f"dspy-parallel[{extra}]", "--find-links", wheel.parent)
    script = python.with_name("dspy-parallel")
    script.write_text(f"#!{python}\nfrom dspy_parallel.cli import main\nraise SystemExit(main())\n")
    script.chmod(0o755)
    run(python, ROOT / "tests" / "packaging" / "touch_names.py", extra, cwd=tmp_path)
