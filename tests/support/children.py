"""Runs what could hang, or ends its process, in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support import preloaded

ROOT = Path(__file__).parents[2]

PRELOADED = [sys.executable, "-I", "-S", preloaded.__file__]
"""Begins a command like `sys.executable`, which has DSPy, LiteLLM and LangGraph imported already."""


def serve_preloaded() -> Callable[[], object]:
    """Have this process and those it starts able to use `PRELOADED`, until what is returned is called."""
    folder = tempfile.TemporaryDirectory(prefix="preloaded-")
    os.environ[preloaded.ADDRESS] = path = os.path.join(folder.name, "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        command = [sys.executable, preloaded.__file__, "--listen", str(listener.fileno())]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])

    def stop() -> None:
        with process:
            folder.cleanup()

    return stop


@dataclass(frozen=True)
class Ended:
    """How a child process ended."""

    code: int
    out: str
    err: str


def run_child(
    source: str,
    *,
    python: Sequence[str] = (sys.executable,),
    timeout: float = 280.0,
    interrupt: bool = False,
    check: bool = True,
) -> Ended:
    """Run Python source; with `interrupt`, send Ctrl-C when it prints the line "ready".

    Fails if it hangs, and with `check` if it ends with an error.
    """
    child = subprocess.Popen(
        [*python, "-c", textwrap.dedent(source)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    before = ""
    try:
        if interrupt:
            for line in child.stdout:
                if line == "ready\n":
                    break
                before += line
            child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(f"the child hangs; it said\n{before}{out}\n{err}") from None
    ended = Ended(child.returncode, before + out, err)
    if check:
        assert ended.code == 0, ended.err
    return ended


def run_module(name: str, *arguments: str, timeout: float) -> str:
    """Run `python -m name`, `PRELOADED`, and return what it prints. Fails if it hangs, or ends with an error."""
    done = subprocess.run(
        [*PRELOADED, "-m", name, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} of {name} {' '.join(arguments)}:\n{done.stdout}\n{done.stderr}"
    return done.stdout
