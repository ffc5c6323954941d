"""`dspy-parallel run`: scripts of many kinds do what they do without it, and what it says at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dspy_parallel.cli.run_command import split
from tests.support.children import PRELOADED
from tests.support.command_line import run_main

pytestmark = pytest.mark.once

SCRIPTS = Path(__file__).parent / "scripts"
RUN = ("-m", "dspy_parallel", "run")
ENVIRONMENT = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(Path(__file__).parents[2])}


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    out: str
    err: str


def both(ways: list[list[str]], given: str = "", *, together: int = 0) -> list[Ended]:
    """The same in several ways, side by side; in the last, no call is answered before so many have been made."""
    pipe = subprocess.PIPE
    how: dict[str, Any] = {"cwd": SCRIPTS, "stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
    started = []
    for way in ways:
        env = {**ENVIRONMENT, "TOGETHER": str(together if way == ways[-1] else 0)}
        # What looks at its module, and what has options of the interpreter, as users run it.
        python = [sys.executable] if {"main_module.py", "-W"} & {*way} else PRELOADED
        started.append(subprocess.Popen([*python, *way], env=env, **how))
    return [Ended(process.returncode, *found) for process in started if (found := process.communicate(given, 280))]


def same_both_ways(ways: list[list[str]], given: str = "", together: int = 0) -> str:
    """Check that stock and ours end the same, and give the line that ours adds."""
    stock, ours = both(ways, given, together=together)
    said, _, rest = ours.err.rpartition("dspy-parallel: ")
    assert (ours.code, ours.out, said + rest.partition("\n")[2]) == stock
    return rest


@pytest.mark.parametrize(
    ("script", "arguments", "given", "together"),
    [
        ("arguments.py", ["a", "--limit", "3"], "", 4),
        ("own_loop.py", [], "", 3),
        ("threads.py", [], "", 12),
        ("graph.py", [], "", 8),
        ("service.py", [], "", 4),
        ("reading.py", [], "one\ntwo\n", 4),
        ("failing.py", [], "", 4),
        ("raising.py", [], "", 2),
        ("hooking.py", [], "", 4),
        ("exiting.py", [], "", 4),
        ("interrupted.py", [], "", 4),
        ("main_module.py", ["a"], "", 4),
        ("-m", ["package", "-W", "error"], "", 4),
    ],
)
def test_a_script_does_what_it_does_without_and_what_can_be_asked_at_once_is(script, arguments, given, together):
    if needs := {"graph.py": "langgraph", "service.py": "fastapi"}.get(script):
        pytest.importorskip(needs)
    assert "LM time in" in same_both_ways([[script, *arguments], [*RUN, script, *arguments]], given, together)


def test_an_evaluation_which_shows_a_progress_bar():
    stock, ours = both([["evaluating.py"], [*RUN, "evaluating.py"]], together=8)
    assert (ours.out, ours.code) == (stock.out, stock.code), ours.err


def test_calls_in_other_processes_are_not_seen():
    assert same_both_ways([["processes.py"], [*RUN, "processes.py"]]) == "no LM call was seen.\n"


def test_a_script_that_is_no_python():
    stock, ours = both([["unfinished.txt"], [*RUN, "unfinished.txt"]])
    assert ours == stock


def test_a_module_and_warnings_as_errors():
    strict = ["-W", "error::UserWarning"]
    ways = [[*strict, "-m", "failing"], [*strict, *RUN, "--quiet", "-m", "failing"]]
    stock, ours = both(ways)
    assert (ours.code, ours.out) == (stock.code, stock.out) == (1, "at the end\n")
    assert ours.err.splitlines()[-1] == stock.err.splitlines()[-1] == "UserWarning: of its own"


def test_a_recording_is_kept(tmp_path):
    page = tmp_path / "run.json"
    (ours,) = both([[*RUN, "--record", str(page), "--limit", "2", "--thread", "--no-overlap", "exiting.py"]])
    assert ours.err.startswith("said at the end\ndspy-parallel: ")
    assert page.stat().st_mode & 0o777 == 0o600
    from dspy_parallel import Timeline

    assert Timeline.load(page).figures.lm_calls == 5


def test_what_is_the_commands_and_what_is_the_scripts():
    ours = ["run", "--record", "x.html", "--limit=3", "--thread"]
    for theirs in (["s.py", "--limit", "1"], ["-m", "module", "--thread"], []):
        assert split([*ours, *theirs]) == (ours, theirs)
    assert split(["doctor", "-m"]) == (["doctor", "-m"], [])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a script"),
        (["-m"], "name a script, or a module"),
        (["nowhere.py"], "nowhere.py cannot be read: No such file"),
        (["."], "is a folder"),
        (["-m", "nowhere.at_all"], "nowhere.at_all"),
        (["-m", "json.decoder.x"], "json.decoder.x"),
        (["--record", "x.pdf", "s.py"], "name ends in .html"),
        (["--record", "/nowhere/x.html", "s.py"], "cannot be written"),
        (["--limit", "many", "s.py"], "invalid int"),
    ],
)
def test_what_cannot_be_run_is_said_and_ends_with_two(capsys, monkeypatch, arguments, told):
    monkeypatch.setattr(sys, "path", [*sys.path])
    done = run_main(capsys, "run", *arguments)
    assert done.code == 2
    assert told in done.err
