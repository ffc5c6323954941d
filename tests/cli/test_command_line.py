"""The command line: `demo`, `serve`, help and wrong options."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from dspy_parallel.testing import LMServer
from tests.support.command_line import run_main

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "dspy_parallel"]

# LiteLLM leaves the connections of an event loop that has ended to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


class TestDemo:
    def test_both_ways_the_answers_and_what_it_comes_to(self, capsys):
        done = run_main(capsys, "demo", "--scale", "0.02")
        assert done.code == 0, done.err
        assert "as it is: extract(...)" in done.out
        assert "parallelised: await run(extract, ..., overlap=True)" in done.out
        assert "VectorSearchExtractor.extractor" in done.out
        assert re.search(r"time: created_at >= 2025-12-01T00:00:00Z, created_at < 2025-12-08T00:00:00Z", done.out)
        graphs = importlib.util.find_spec("langgraph") is not None
        assert len(re.findall(r"times as fast\. LM requests: 3 / 3\. Same outputs\.", done.out)) == (3 if graphs else 1)
        assert ("parallelize_graph(graph, overlap=True)" in done.out) == graphs

    def test_as_json(self, capsys):
        done = run_main(capsys, "demo", "--scale", "0.02", "--questions", "2", "--json")
        assert done.code == 0, done.err
        for compared in json.loads(done.out).values():
            assert compared["same"]
            assert compared["answers"]["before"] == compared["answers"]["after"]
            assert compared["before"]["figures"]["peak_in_flight"] == 1
            assert compared["before"]["requests"] == compared["after"]["requests"] == 6
        function = json.loads(done.out)["one function"]["answers"]["after"][0]
        assert "n.author = $value_0" in function["query"]["text"]
        assert function["query"]["parameters"]["value_0"] == "Anna"

    def test_answers_that_differ_are_said_and_end_with_1(self, capsys):
        """The first and the third time the same: it is not the model that is fickle."""
        found = [{"time_filters": []}, {"time_filters": [{"property": "due_at", "operator": "<", "value": "x"}]}]
        fickle = {"match": r"## time_properties ##", "fields": [*found, *found, *found]}
        with LMServer(replies=[fickle]) as server:
            done = run_main(capsys, "demo", "--model", "openai/any", "--api-base", server.api_base, "--api-key", "k")
        assert done.code == 1, done.err
        assert "differs at [0]['time']" in done.out
        assert "found parallelised" in done.out

    def test_a_failing_lm_ends_with_3_and_keys_are_not_shown(self, capsys):
        with LMServer(faults=[{"kind": "401", "message": "No such key: sk-very-secret"}]) as server:
            provider = ("--model", "openai/any", "--api-base", server.api_base, "--api-key", "sk-very-secret")
            done = run_main(capsys, "demo", *provider)
        assert done.code == 3
        assert "The demo's LM call failed." in done.err
        assert "Check --model" in done.err
        assert "Traceback" not in done.err
        assert "sk-very-secret" not in done.out + done.err

    @pytest.mark.once
    def test_ctrl_c_while_calls_are_in_flight(self):
        with LMServer(hold=True, max_hold=600) as server:
            provider = ("--model", "openai/any", "--api-base", server.api_base, "--api-key", "k")
            process = subprocess.Popen(
                [*COMMAND, "demo", *provider], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            try:
                server.wait_for(held=1, timeout=280)
                process.send_signal(signal.SIGINT)
                _, err = process.communicate(timeout=280)
            finally:
                process.kill()
        assert process.returncode == 130
        assert err.splitlines()[-1] == "Interrupted."
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("dmeo",), "dmeo"),
        (("demo", "--fast"), "unrecognized arguments: --fast"),
        (("demo", "--questions", "99"), "--questions 99: there are 1 to 10"),
        (("demo", "--scale", "0"), "--scale is a number over 0"),
        (("demo", "--api-base", "http://127.0.0.1:1/v1"), "name its model too, with --model"),
        (("demo", "--api-key", "k"), "--api-key is for a real provider"),
        (("demo", "--model", "openai/any", "--api-base", "localhost:1"), "begins with http:// or https://"),
        (("demo", "--model", "openai/any", "--scale", "2"), "--scale is for the recorded latencies"),
        (("serve", "--latency", "soon"), "soon"),
    ],
)
def test_wrong_options_are_told_what_to_do(capsys, arguments, told):
    done = run_main(capsys, *arguments)
    assert done.code == 2
    assert told in done.err


def test_a_missing_server_is_told_how_to_install(capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "aiohttp" else found(name, *a))
    done = run_main(capsys, "demo")
    assert done.code == 2
    assert "pip install 'dspy-parallel[testing]'" in done.err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], "commands:"),
        (["--help"], "demo"),
        (["demo", "--help"], "exit codes"),
        (["--version"], "dspy-parallel 0"),
    ],
)
def test_help_and_version(capsys, arguments, shown):
    done = run_main(capsys, *arguments)
    assert (done.code, done.err) == (0, "")
    assert shown in done.out


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
        assert httpx.get(f"{api_base}/models", timeout=60).json()["data"][0]["id"] == "mine"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=280)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
