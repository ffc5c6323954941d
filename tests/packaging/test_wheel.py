"""The built wheel in fresh environments: with no extra, and with each alone; and what it carries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
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


def test_it_carries_the_demo(wheel: Path, tmp_path: Path) -> None:
    """Run where there is no checkout."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "dspy_parallel" / "demo" / "level_agent" / "recorded.json").exists()
    done = subprocess.run(
        [sys.executable, "-m", "dspy_parallel", "demo", "--json", "--scale", "0.02"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Some releases of LiteLLM fail in a `__del__` of theirs when the interpreter exits.
    ours = re.sub(r"Exception ignored in: <function LiteLLM.*\n(Traceback .*\n( .*\n)*\w+: .*\n)?", "", done.stderr)
    assert ours == "", "no warnings"
    assert all(compared["same"] for compared in json.loads(done.stdout).values())
