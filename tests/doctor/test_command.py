"""`dspy-parallel doctor`: what it prints, how it ends, and what a bad target is told."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.children import PRELOADED

HERE = Path(__file__).parent

PROJECT = {
    "pack/__init__.py": "",
    "pack/agent.py": (
        "import dspy\n"
        "from .tools import wait\n"
        "predict = dspy.Predict('text -> short')\n"
        "async def ask(text):\n"
        "    wait()\n"
        "    predict(text=text)  # dspy-parallel: ignore[nested-loop]\n"
        "    return predict(text=text)  # dspy-parallel: ignore[blocks-loop]\n"
    ),
    "pack/tools.py": "import time  # nothing of dspy's\ndef wait():\n    time.sleep(1)\n",
    "pack/broken.py": "import dspy, nothing_of_this_name\n",
    "pack/script.py": (
        "import argparse, dspy\n"
        "argparse.ArgumentParser().parse_args()\n"
        "dspy.configure(lm=dspy.LM('openai/any'))\n"
        "dspy.Predict('question -> answer')(question='?')\n"
    ),
    "pack/test_it.py": "import dspy\nraise AssertionError\n",
    ".venv/lib.py": "import dspy\nraise AssertionError\n",
    "program.py": (
        "import dspy\n"
        "from dspy_parallel import async_module\n"
        "print('imported')\n"
        "@async_module\n"
        "class Parts(dspy.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.part = dspy.Predict('text -> short')\n"
        "    def forward(self, text):\n"
        "        return [self.part(text=f'{text} {n}').short for n in range(4)]\n"
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def doctor(*arguments: str, cwd: Path = HERE, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [*PRELOADED, "-m", "dspy_parallel", "doctor", *arguments]
    return subprocess.run(command, cwd=cwd, input=given, capture_output=True, text=True, timeout=280, check=False)


pytestmark = pytest.mark.once


def test_a_folder_is_looked_through_and_ends_with_one_and_a_summary(project):
    done = doctor(".", cwd=project)
    assert done.returncode == 1
    assert done.stdout.startswith(".: 1 function, 1 dspy.Module\n")
    assert "warning: blocks-loop  pack/tools.py:3  in wait" in done.stdout
    assert "reached through pack/agent.py:5" in done.stdout
    assert "warning: blocks-loop  pack/agent.py:6  in ask" in done.stdout
    assert "Not looked at: Importing pack/broken.py failed: ModuleNotFoundError" in done.stdout
    said = " ".join(done.stdout.split())
    assert "Importing pack/script.py failed: " in said
    assert done.stdout.endswith("2 warnings, 1 ignored in 2 files.\n")
    assert done.stderr == "imported\n"


@pytest.mark.parametrize("target", ["pack", "pack.agent", "pack/agent.py", "pack.agent:ask"])
def test_a_package_a_module_a_file_an_object(project, target):
    assert doctor(target, cwd=project).stdout.endswith("2 warnings, 1 ignored in 2 files.\n")


def test_a_terminal_has_colours(project):
    pytest.importorskip("rich")
    leader, follower = pty.openpty()
    command = [*PRELOADED, "-m", "dspy_parallel", "doctor", "program.py"]
    subprocess.run(command, cwd=project, env={**os.environ, "TERM": "xterm"}, stdout=follower, timeout=280, check=True)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    os.close(follower)
    assert "\x1b[36m  module   \x1b[0mParts" in shown
    assert "\x1b[1;32mNothing found.\x1b[0m" in shown


def test_formats_for_programs_have_file_line_level_and_kind(project):
    lines = doctor("pack.agent", "--format", "github", cwd=project).stdout.splitlines()
    assert [line.partition("::predict")[0] for line in lines][:1] == [
        "::warning file=pack/agent.py,line=6,title=blocks-loop"
    ]
    sarif = json.loads(doctor("pack.agent", "--format", "sarif", cwd=project).stdout)
    (run,) = sarif["runs"]
    at = [result["locations"][0]["physicalLocation"] for result in run["results"]]
    assert [(place["artifactLocation"]["uri"], place["region"]["startLine"]) for place in at] == [
        ("pack/agent.py", 6),
        ("pack/tools.py", 3),
    ]
    assert {result["level"] for result in run["results"]} == {"warning"}
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["blocks-loop"]
    data = json.loads(doctor(".", "--json", cwd=project).stdout)
    assert data["kind"] == "project"
    assert [(found["kind"], found["line"]) for found in data["findings"]] == [("blocks-loop", 6), ("blocks-loop", 3)]
    assert {(program["name"], program["where"], program["auto"]) for program in data["programs"]} == {
        ("Parts", "bridge", "loop"),
        ("ask", "loop", None),
    }


@pytest.mark.parametrize("given", [["text=a"], ["-"], ['{"text": "a"}'], ["input.json"]], ids=lambda given: given[0])
def test_a_run_sees_what_overlap_gains(project, given):
    (project / "input.json").write_text('{"text": "a"}')
    done = doctor("program.py", "--input", *given, "--serve", cwd=project, given='{"text": "a"}')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "made its aforward(); runs on the event loop" in " ".join(done.stdout.split())
    assert "4 predictor calls of " in done.stdout
    assert "Critical path: " in done.stdout
    assert "note: overlap  program.py:9  in Parts.forward" in done.stdout
    assert "@async_module(overlap=True)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "There is no module 'nothing'"),
        (["nowhere:x"], "There is no module 'nowhere'"),
        (["nowhere.py"], "There is no file nowhere.py"),
        (["clean/decorated.py:x"], "has no object 'x'. It has Answer, Inner, answer, ask, rows."),
        (["clean/decorated.py:dspy"], "which is no program"),
        (["json:JSONEncoder"], "is the class JSONEncoder, which is no program"),
        (["clean/sync_program.py:predict()"], "failed: "),
        (["json"], "json has no program"),
        (["clean", "--input", "text=a"], " programs. Name one to run"),
        (["clean/sync_program.py:main", "--input", "[1]"], "neither an object of keyword arguments"),
        (["clean/sync_program.py:main", "--input", "no_such_argument=1"], "TypeError"),
        (["observed/in_sequence.py:target", "--input", "nowhere.json"], "cannot be read"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_bad_target_or_input_ends_with_two_and_a_sentence(arguments, says):
    done = doctor(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
