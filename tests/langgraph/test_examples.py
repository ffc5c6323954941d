"""The examples run as their commands say, and show what they say."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.children import PRELOADED

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> str:
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(
        [*PRELOADED, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_level_agent_graph() -> None:
    shown = run("examples.level_agent_graph", "--questions", "12", "--scale", "0.2")
    assert len(re.findall(r"^\([abc]\) .* \d+\.\d\d s$", shown, re.MULTILINE)) == 8


def test_fastapi_graph_under_load() -> None:
    """Many requests at once, and clients that hang up: all their LM requests are closed, none runs on."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    shown = run("examples.fastapi_graph", "--requests", "40", "--latency", "0.2")
    assert re.search(r"/review +40 requests: +\d", shown)
    assert re.search(r"/review-stock +5 requests: +\d", shown)
    assert "10 clients hung up: 20 LM requests in flight were closed, 0 ran on" in shown
