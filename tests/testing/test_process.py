"""The server's process: starting, failing to start, and never being left behind."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dspy_parallel.testing import LMServer, LMServerError, SettingsError, lm_server
from tests.testing.requests import chat

ROOT = Path(__file__).resolve().parents[2]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def _wait_gone(pid: int) -> None:
    """Wait for a process that is not a child: its pidfd becomes readable when it ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], 60)[0], f"process {pid} was left behind"
    finally:
        os.close(descriptor)


def test_start_and_stop() -> None:
    """The process lives as long as the context; both calls may be repeated."""
    server = LMServer()
    with pytest.raises(LMServerError, match="not running"):
        _ = server.api_base
    with server:
        pid = server.pid
        assert server.start().pid == pid
        assert server.lm_kwargs()["api_base"] == f"http://127.0.0.1:{server.port}/v1"
        with LMServer() as other:
            assert other.lm_kwargs()["api_key"] != server.lm_kwargs()["api_key"]
        assert chat(server).status == 200
    assert not _is_alive(pid)
    server.stop()
    with server:
        assert server.pid != pid


def test_stop_from_many_threads() -> None:
    """One of them stops it, the others find it stopped."""
    server = LMServer().start()
    pid = server.pid
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: server.stop(), range(8)))
    assert not _is_alive(pid)


def test_a_wrong_option_leaves_no_process() -> None:
    """The option is checked on starting."""
    server = LMServer(nonsense=1)
    with pytest.raises(SettingsError, match="Unknown option 'nonsense'"):
        server.start()
    with pytest.raises(LMServerError, match="not running"):
        _ = server.pid


def test_a_port_in_use_is_explained() -> None:
    """The error has what the process wrote to stderr."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(LMServerError, match=r"(?s)ended with status 1\. Its stderr:.*address already in use"):
            LMServer(port=taken.getsockname()[1]).start()


def test_a_slow_start_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits longer than the startup timeout."""
    monkeypatch.setattr(lm_server, "_PROGRAM", "import sys; sys.stdin.read()")
    with pytest.raises(LMServerError, match=r"did not listen within 0\.001 s"):
        LMServer(startup_timeout=0.001).start()


PARENT = """
import os, sys
from dspy_parallel.testing import LMServer
server = LMServer(hold=True).start()
print(server.pid, flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end",
    [
        "sys.stdin.read()",
        "",
        "os._exit(3)",
        "raise SystemExit('error')",
        # A fork that lives on holds the pipe to the server open.
        "if os.fork() == 0:\n    sys.stdin.read()\nelse:\n    os._exit(0)",
    ],
    ids=["killed", "exit", "hard exit", "error", "fork"],
)
def test_the_server_dies_with_its_parent(end: str) -> None:
    """However the parent ends, also without a chance to clean up."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(end=end)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if end == "sys.stdin.read()":
            parent.kill()
        _wait_gone(pid)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, "stdin"])
def test_the_command(how: signal.Signals | str) -> None:
    """It prints where it listens, and ends on a signal or with its stdin."""
    command = [sys.executable, "-m", "dspy_parallel.testing", "--latency", "0.01", "--option", 'models=["m"]']
    command += ["--option", "retry_after=2", "--config", '{"words": 5}']
    process = subprocess.Popen(
        [*command, "--stop-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        ready = json.loads(process.stdout.readline())
        assert ready["api_base"] == f"http://127.0.0.1:{ready['port']}/v1"
        assert ready["pid"] == process.pid
        if how == "stdin":
            process.stdin.close()
        else:
            process.send_signal(how)
        assert process.wait(60) == 0


def test_a_wrong_command_line() -> None:
    """Status 2 and the reason."""
    command = [sys.executable, "-m", "dspy_parallel.testing", "--option", "nonsense=1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 2
    assert "Unknown option 'nonsense'" in done.stderr


def test_neither_side_imports_dspy() -> None:
    """The handle needs the standard library only, and the process starts without DSPy and LiteLLM."""
    code = (
        "import sys, types\n"
        "package = types.ModuleType('dspy_parallel'); package.__path__ = ['dspy_parallel']\n"
        "sys.modules['dspy_parallel'] = package\n"
        "import dspy_parallel.testing\n"
        "assert not {'dspy', 'litellm', 'aiohttp'} & set(sys.modules)\n"
        "import dspy_parallel.testing.server_process\n"
        "assert not {'dspy', 'litellm'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=280)


def test_a_fork_does_not_stop_the_server() -> None:
    """A child process that exits leaves its parent's server alone."""
    code = (
        "import os, sys\n"
        "from dspy_parallel.testing import LMServer\n"
        "with LMServer() as server:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        server.stop(); sys.exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "    assert server.stats().requests == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, timeout=280)


def test_the_pytest_fixtures(tmp_path: Path) -> None:
    """`lm_server` and `lm_server_factory` come with the plugin, fresh for each test."""
    (tmp_path / "test_it.py").write_text(
        "import urllib.request\n"
        "pids = []\n"
        "def test_one(lm_server):\n"
        "    pids.append(lm_server.pid)\n"
        "    lm_server.configure(latency=5)\n"
        "def test_two(lm_server, lm_server_factory):\n"
        "    assert lm_server.pid not in pids\n"
        "    other = lm_server_factory(models=['x'])\n"
        "    assert b'\"x\"' in urllib.request.urlopen(other.api_base + '/models', timeout=20).read()\n"
        "    assert other.port != lm_server.port\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "dspy_parallel.testing.plugin", str(tmp_path / "test_it.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
