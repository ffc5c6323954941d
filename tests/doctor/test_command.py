"""`dspy-parallel doctor`: what it prints, how it ends, and what a bad target is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAWED = HERE / "flawed"
CLEAN = HERE / "clean"

pytestmark = pytest.mark.once


def doctor(*arguments: str, cwd: Path = HERE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dspy_parallel.cli", "doctor", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=110, check=False)


def test_a_flawed_program_ends_with_one_and_is_told_where_and_what_instead():
    done = doctor("flawed/own_aforward_blocks.py:target")
    assert done.returncode == 1
    assert "warning: blocks-loop  flawed/own_aforward_blocks.py:19  in Review.aforward" in done.stdout
    assert "write: await self.rate.acall(...)" in done.stdout
    assert "reached through flawed/own_aforward_blocks.py:18" in done.stdout
    assert done.stdout.endswith("2 warnings.\n")
    assert done.stderr == ""


def test_a_clean_one_ends_with_zero():
    done = doctor("clean/decorated.py:target")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the bridge, auto" in done.stdout
    assert done.stdout.endswith("Nothing found.\n")


def test_notes_alone_end_with_zero():
    done = doctor("flawed/rate_limited.py:target")
    assert done.returncode == 0
    assert "note: max-concurrency" in done.stdout


def test_json_has_everything():
    done = doctor("flawed/locked.py:target", "--json")
    assert done.returncode == 1
    data = json.loads(done.stdout)
    assert [(found["kind"], found["level"], found["line"]) for found in data["findings"]] == [
        ("lock-across-call", "warning", 20),
        ("lock-across-call", "warning", 22),
        ("lock-across-call", "warning", 24),
    ]
    (program,) = data["programs"]
    assert (program["where"], program["engine"], program["file"]) == ("bridge", "auto", str(FLAWED / "locked.py"))


def test_a_module_by_its_dotted_name():
    done = doctor("clean.by_hand:Extract")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_sees_what_the_source_does_not_tell(tmp_path):
    (tmp_path / "hidden.py").write_text(
        "import asyncio, time\n"
        "import dspy\n"
        "waits = {'sleep': time.sleep}\n"
        "async def target(text, how):\n"
        "    await asyncio.sleep(0)\n"
        "    nap = waits.get(how)\n"
        "    nap(0.3)\n"
        "    return await dspy.Predict('text -> short').acall(text=text)\n"
    )
    (tmp_path / "input.json").write_text('{"text": "a", "how": "sleep"}')
    done = doctor("hidden.py:target", "--input", "input.json", "--serve", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "blocks-loop  hidden.py:7  in target" in done.stdout
    assert "The event loop stood still for 0." in done.stdout


def test_a_run_sees_what_overlap_gains(tmp_path):
    (tmp_path / "program.py").write_text(
        "import dspy\n"
        "from dspy_parallel import async_module\n"
        "@async_module\n"
        "class Parts(dspy.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.part = dspy.Predict('text -> short')\n"
        "    def forward(self, text):\n"
        "        return [self.part(text=f'{text} {n}').short for n in range(4)]\n"
    )
    (tmp_path / "input.json").write_text('{"text": "a"}')
    done = doctor("program.py:Parts", "--input", "input.json", "--serve", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 predictor calls of " in done.stdout
    assert "Critical path: " in done.stdout
    assert "note: overlap  program.py:8  in Parts.forward" in done.stdout
    assert "@async_module(overlap=True)" in done.stdout


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nothing", "names no object"),
        ("nowhere:x", "There is no module 'nowhere'"),
        ("nowhere.py:x", "There is no file nowhere.py"),
        ("clean/decorated.py:x", "has no object 'x'. It has Answer, Inner, rows, target."),
        ("clean/decorated.py:dspy", "which is no program"),
        ("json:JSONEncoder", "is the class JSONEncoder, which is no program"),
        ("clean/sync_function.py:predict()", "failed: "),
        ("test_broken.txt.py:x", "There is no file"),
    ],
)
def test_a_bad_target_ends_with_two_and_a_sentence(target, says):
    done = doctor(target)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_imported_and_inputs_that_cannot_be_used(tmp_path):
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "input.json").write_text("[1]")
    (tmp_path / "wrong.json").write_text('{"no_such_argument": 1}')
    done = doctor("broken.py:x", cwd=tmp_path)
    assert done.returncode == 2
    assert "Importing broken.py:x failed: ModuleNotFoundError" in done.stderr
    done = doctor(f"{CLEAN}/sync_function.py:target", "--input", "input.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "neither an object of keyword arguments" in done.stderr
    done = doctor(f"{CLEAN}/sync_function.py:target", "--input", "wrong.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "TypeError" in done.stderr
