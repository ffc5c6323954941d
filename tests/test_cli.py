"""The command line: what `dspy-parallel demo` prints and how it ends; `serve`; wrong options."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from dspy_parallel import cli
from dspy_parallel.demo import command
from dspy_parallel.demo.progress import Progress
from dspy_parallel.demo.report import axis, bar
from dspy_parallel.testing import LMServer

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "dspy_parallel.cli"]


def run(*arguments: str, **options):
    options = {"capture_output": True, "text": True, "timeout": 110, "cwd": ROOT, **options}
    return subprocess.run([*COMMAND, *arguments], check=False, **options)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a wrong command line is told."""
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def demo(capsys: pytest.CaptureFixture[str]) -> Callable[..., Shown]:
    """Runs the demo in this process, which saves the seconds that importing LiteLLM takes.

    In a thread, because in the main thread LiteLLM's sync calls make an event loop and leave it open.
    """

    def run_here(*arguments: str) -> Shown:
        with ThreadPoolExecutor(1) as threads:
            code = threads.submit(cli.main, ["demo", *arguments]).result(110)
        return Shown(code, *capsys.readouterr())

    return run_here


class Shown(NamedTuple):
    """How a command ended, and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class TestDemo:
    def test_json(self):
        """In a process of its own: the command as it is typed."""
        done = run("demo", "--json", "--questions", "2", "--scale", "0.1")
        assert done.returncode == 0, done.stderr
        # Some releases of LiteLLM fail in a `__del__` of theirs when the interpreter exits.
        ours = re.sub(r"Exception ignored in: <function LiteLLM.*\n(Traceback .*\n( .*\n)*\w+: .*\n)?", "", done.stderr)
        assert ours == "", "no terminal, no progress; and no warnings"
        result = json.loads(done.stdout)
        assert result["same"]
        assert result["ratio"] > 1
        assert len(result["questions"]) == 2
        for question in result["questions"]:
            before, after = question["before"], question["after"]
            assert before["answers"] == after["answers"]
            assert before["cypher"] == after["cypher"]
            for calls in (before["calls"], after["calls"]):
                assert [c["extractor"] for c in calls] == ["time", "non-time", "vector"]
            for one, two in zip(before["calls"], before["calls"][1:], strict=False):
                assert one["end"] <= two["start"]
            assert max(c["start"] for c in after["calls"]) < min(c["end"] for c in after["calls"]), "all at once"
        assert "n.author = $value_0" in result["questions"][0]["after"]["cypher"]
        assert result["questions"][0]["after"]["parameters"]["value_0"] == "Anna"

    @pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
    def test_text(self, demo, engine):
        done = demo("--questions", "1", "--scale", "0.1", "--progress", "--engine", engine)
        assert done.returncode == 0, done.stderr
        assert "question 1 of 1, as you have it" in done.stderr
        text = done.stdout
        assert f"engine {engine}" in text
        assert text.count("█") > 60
        assert re.search(r"time +created_at >= 2025-12-01T00:00:00Z +=  created_at >= 2025-12-01T00:00:00Z", text)
        assert re.search(r"\d\.\d\d times as fast\. Longest single call \d\.\d\d s; the parallel run [+-]\d", text)
        assert "All answers are the same." in text

    def test_bars_without_unicode(self, demo, monkeypatch):
        monkeypatch.setattr(command, "_can_write", lambda text: False)
        done = demo("--questions", "1", "--scale", "0.05")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("#") > 60
        assert "█" not in done.stdout

    def test_answers_that_differ_are_said_and_end_with_1(self, demo):
        fickle = {
            "match": r"## time_properties ##",
            "fields": [{"time_filters": []}, {"time_filters": [{"property": "due_at", "operator": "<", "value": "x"}]}],
        }
        with LMServer(replies=[fickle]) as server:
            provider = ("--model", "openai/any", "--api-base", server.api_base, "--api-key", "k")
            done = demo("--questions", "1", *provider)
        assert done.returncode == 1, done.stderr
        assert "The answers differ in question 1." in done.stdout
        assert re.search(r"time +none +!= +due_at < x", done.stdout)
        assert "left out: " in done.stdout

    def test_a_failing_lm_ends_with_3_and_keys_are_not_shown(self, demo):
        with LMServer(faults=[{"kind": "401", "message": "No such key: sk-very-secret"}]) as server:
            provider = ("--model", "openai/any", "--api-base", server.api_base, "--api-key", "sk-very-secret")
            done = demo(*provider)
        assert done.returncode == 3
        assert "The demo's LM call failed." in done.stderr
        assert "Check --model" in done.stderr
        assert "Traceback" not in done.stderr
        assert "sk-very-secret" not in done.stdout + done.stderr

    @pytest.mark.once
    def test_ctrl_c_while_calls_are_in_flight(self):
        process = subprocess.Popen(
            [*COMMAND, "demo", "--questions", "1", "--progress"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "with @async_module" in line and line.endswith("...\n"):
                    break
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130
        assert err.splitlines()[-1] == "Interrupted."
        assert "Traceback" not in err

    @pytest.mark.once
    @pytest.mark.timeout(360)
    def test_parallel_run_takes_the_longest_call_and_five_per_cent(self, demo):
        """With the latencies of the issue; over three questions, the medians of the run and of the longest call."""
        measured = []
        for _ in range(3):  # a busy machine may spoil one attempt
            done = demo("--json", "--questions", "3", "--no-graph")
            assert done.returncode == 0, done.stderr
            questions = json.loads(done.stdout)["questions"]
            parallel = statistics.median(q["after"]["seconds"] for q in questions)
            longest = statistics.median(q["longest_call"] for q in questions)
            measured.append(f"{parallel:.3f} s / {longest:.3f} s")
            if parallel <= 1.05 * longest:
                return
        pytest.fail(f"the parallel run takes too long: {', '.join(measured)}")


class TestWrongOptions:
    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ((), "required: COMMAND"),
            (("dmeo",), "dmeo"),
            (("demo", "--fast"), "unrecognized arguments: --fast"),
            (("demo", "--questions", "0"), "'0' is not a whole number from 1 on"),
            (("demo", "--questions", "99"), "--questions 99: there are 10"),
            (("demo", "--questions", "1", "--all"), "not allowed with"),
            (("demo", "--scale", "slow"), "'slow' is not a number"),
            (("demo", "--engine", "warp"), "warp"),
            (("demo", "--api-base", "http://127.0.0.1:1/v1"), "name its model too, with --model"),
            (("demo", "--api-key", "k"), "--api-key is for a real provider"),
            (("demo", "--model", "openai/any", "--api-base", "localhost:1"), "begins with http:// or https://"),
            (("demo", "--model", "openai/any", "--scale", "2"), "--scale is for the recorded latencies"),
            (("serve", "--latency", "soon"), "soon"),
        ],
    )
    def test_are_told_what_to_do(self, capsys, arguments, told):
        assert told in fails(capsys, *arguments)

    def test_missing_server_is_told_how_to_install(self, capsys, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert "pip install 'dspy-parallel[testing]'" in fails(capsys, "demo")

    def test_help_and_version(self, capsys):
        for arguments, shown in (
            (["--help"], "demo"),
            (["demo", "--help"], "exit codes"),
            (["--version"], "dspy-parallel 0"),
        ):
            with pytest.raises(SystemExit) as caught:
                cli.main(arguments)
            assert caught.value.code == 0
            assert shown in capsys.readouterr().out


def test_serve_until_ctrl_c():
    process = subprocess.Popen(
        [*COMMAND, "serve", "--latency", "0", "--option", 'models=["mine"]'],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        api_base = json.loads(process.stdout.readline())["api_base"]
        assert httpx.get(f"{api_base}/models").json()["data"][0]["id"] == "mine"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")


@pytest.mark.once
def test_a_wheel_carries_the_demo(tmp_path):
    """Built as pip builds it, and run where there is no checkout."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this environment has no pip")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert (site / "dspy_parallel" / "demo" / "level_agent" / "recorded.json").exists()
    shutil.rmtree(tmp_path / "build", ignore_errors=True)
    done = run(
        "demo",
        "--json",
        "--questions",
        "1",
        "--scale",
        "0.05",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stderr


class TestBars:
    def test_lengths_are_to_scale(self):
        assert bar(0, 4, 4, 40) == "█" * 40
        assert bar(1, 2, 4, 40) == " " * 10 + "█" * 10
        assert bar(0, 1.05, 4, 40) == "█" * 10 + "▌"
        assert bar(1, 2, 4, 40, unicode=False) == " " * 10 + "#" * 10

    def test_short_ones_are_seen(self):
        assert bar(0, 0.0001, 4, 40) == "▏"
        assert bar(0, 0.0001, 4, 40, unicode=False) == "#"

    def test_marks_stand_at_their_moments(self):
        assert axis(4, 40) == "0 s       1         2         3         4"
        assert axis(0.4, 40).index("0.2") == 20


class TestProgress:
    def test_on_a_terminal_one_line_that_is_cleared(self):
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        terminal = Terminal()
        with Progress(stream=terminal).waiting("tea"):
            pass
        written = terminal.getvalue()
        assert "tea  0.0 s" in written
        assert "\n" not in written
        assert written.endswith("\r\x1b[K")

    def test_elsewhere_silent_unless_asked_for(self):
        silent, asked = io.StringIO(), io.StringIO()
        with Progress(stream=silent).waiting("tea"), Progress(True, asked).waiting("tea"):
            pass
        assert silent.getvalue() == ""
        assert re.fullmatch(r"tea \.\.\.\ntea: 0\.\d\d s\n", asked.getvalue())
