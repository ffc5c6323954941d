"""Runs `dspy-parallel` in this process, which saves the seconds that importing DSPy and LiteLLM takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from dspy_parallel import cli


class Shown(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str


def run_main(capsys: pytest.CaptureFixture[str], *arguments: str) -> Shown:
    """In a thread, because in the main thread LiteLLM's sync calls make an event loop and leave it open."""
    capsys.readouterr()
    with ThreadPoolExecutor(1) as threads:
        try:
            code = threads.submit(cli.main, list(arguments)).result(280)
        except SystemExit as ended:
            code = int(str(ended.code or 0))
    out, err = capsys.readouterr()
    return Shown(code, str(out), str(err))
