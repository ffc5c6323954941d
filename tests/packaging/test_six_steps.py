"""The commands of docs/six-steps.md, on the project of that page, print what the page shows; so does its code."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dspy_parallel.testing import LMServer
from tests.support.children import PRELOADED
from tests.support.examples import ROOT, blocks_of

from .conftest import environment
from .conftest import run as run_command

pytestmark = pytest.mark.once

PAGE = ROOT / "docs" / "six-steps.md"
RUN, DOCTOR, COMPARE = (block.text.removeprefix("$ ").strip() for block in blocks_of(PAGE, "console"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "agent.py").write_text(blocks_of(PAGE, "python")[0].text)
    (tmp_path / "README.md").write_text("What agents search in.\n")
    (tmp_path / "question.json").write_text('{"question": "Why?"}')
    return tmp_path


def declare_pure(project: Path) -> None:
    agent = (project / "agent.py").read_text()
    agent = agent.replace("def search", "@pure\ndef search")
    (project / "agent.py").write_text(f"from dspy_parallel import pure\n{agent}")


@pytest.fixture(
    scope="module", params=["checkout", pytest.param("wheel", marks=[pytest.mark.wheel, pytest.mark.timeout(900)])]
)
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """An environment's Python: this one, which has the checkout, or a fresh one with what the page says to install."""
    if request.param == "checkout":
        return PRELOADED
    fresh = environment(tmp_path_factory.mktemp("fresh"))
    wheel, (extras,) = (
        request.getfixturevalue("wheel"),
        set(re.findall(r"install 'dspy-parallel(\[.*?\])", PAGE.read_text())),
    )
    run_command(fresh, "-m", "pip", "install", "-q", f"{wheel}{extras}")
    return [str(fresh)]


def run(python: list[str], command: str, project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of the page, which begins with the script that is installed, or with `python`."""
    name, *arguments = shlex.split(command)
    return subprocess.run(
        [*python, *(["-m", "dspy_parallel"] if name == "dspy-parallel" else []), *arguments],
        cwd=project,
        env=os.environ | ({"PYTHONPATH": str(ROOT)} if python is PRELOADED else {}) | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@contextmanager
def provider(**options: float) -> Iterator[dict[str, str]]:
    """A server, and the environment in which programs ask it."""
    with LMServer(**options) as server:
        yield {"OPENAI_API_BASE": server.api_base, "OPENAI_BASE_URL": server.api_base, "OPENAI_API_KEY": "none"}


def shown_after(command: str) -> list[str]:
    """The lines that the page shows of what a command prints."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"```text\n(.*?)```", text[text.index(command) :], re.DOTALL)[0].splitlines()


def without_times(text: str) -> str:
    return " ".join(re.sub(r"\d+\.\d+", "0.00", text).split())


def missing(command: str, printed: str) -> list[str]:
    return [line for line in shown_after(command) if without_times(line) not in without_times(printed)]


def test_step_1_run(python: list[str], project: Path) -> None:
    with provider() as environment:
        done = run(python, RUN, project, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("answer ")
    assert missing(RUN, done.stderr) == []
    assert "<title>" in (project / "run.html").read_text(encoding="utf-8")


def test_step_2_doctor(python: list[str], project: Path) -> None:
    done = run(python, DOCTOR, project)
    assert done.returncode == 1, done.stderr
    assert missing(DOCTOR, done.stdout) == []


def test_step_3_compare_and_step_5_pure(python: list[str], project: Path) -> None:
    before = run(python, COMPARE, project)
    assert before.returncode == 0, before.stderr
    assert missing(COMPARE, before.stdout + before.stderr) == []
    declare_pure(project)
    after = run(python, COMPARE, project)
    assert after.returncode == 0, after.stderr
    assert "overlap stopped" not in after.stdout + after.stderr
    assert [re.findall(r"peak (\d)$", done.stdout, re.MULTILINE) for done in (before, after)] == [["1", "2"]] * 2
    assert "LM requests: 4 / 4. Same outputs." in after.stdout


def test_step_4_decorate_and_step_6_limits_and_batches(python: list[str], project: Path) -> None:
    """All Python of the page, as one script."""
    (project / "steps.py").write_text("\n".join(block.text for block in blocks_of(PAGE, "python")))
    with provider() as environment:
        done = run(python, "python steps.py Why?", project, **environment)
    assert done.returncode == 0, done.stderr
    answer, placement = done.stdout.splitlines()
    assert answer.startswith("answer ")
    assert "in a thread: io.open may block" in placement
