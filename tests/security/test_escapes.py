"""Text of a model, a file or a program is shown and never obeyed, wherever this package prints it."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM
from hypothesis import given
from hypothesis import strategies as st

from dspy_parallel import BlockingWarning, ResumeError, TargetError, Timeline, explain
from dspy_parallel.batches.progress_bar import Progress
from dspy_parallel.compare.comparison_report import as_html, lines
from dspy_parallel.compare.differences import differences
from dspy_parallel.compare.two_runs import Comparison, Run
from dspy_parallel.display import plain
from dspy_parallel.doctor.findings import Finding, Place
from dspy_parallel.escapes import escaped
from tests.support.command_line import run_main
from tests.timeline.making import timeline

EVIL = {
    "a title and an erased screen": "\x1b]0;owned\x07\x1b[2J",
    "the line from its beginning": "harmless\rharmful",
    "a C1 control sequence": "\x9b2J\x90q\x9c",
    "another direction": "\u202etxt.exe\u2066\u200f",
    "nothing to be seen": "a\u200bb\ufeffc\u00add\u2060",
    "an ink-less letter": "a\u3164b\u2800",
    "line separators": "one\u2028two\u2029three\x85four\x0b\x0c",
    "half a surrogate pair": "\ud800",
    "a tag": "\U000e0041",
}
obeyed = "".join(character for text in EVIL.values() for character in text if not character.isprintable())


def is_shown(text: str, evil: str) -> bool:
    """Nothing in it does anything; what it stands for can be read."""
    harmless = all(character.isprintable() or character == "\n" for character in text)
    return harmless and evil.encode("unicode_escape").decode("ascii") in text.replace("\\\\", "\\")


@pytest.fixture(params=EVIL.values(), ids=EVIL)
def evil(request: pytest.FixtureRequest) -> str:
    return request.param


class Agent(dspy.Module):
    """Asks, and then has the answer in an error, or in the name of an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.ask = dspy.Predict("question -> tool"), dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        tool = self.route(question=question).tool
        try:
            getattr(self, tool)
        except AttributeError:
            pass
        self.ask(question=question)
        raise ValueError(f"no tool {tool}")


def test_in_explain(evil: str) -> None:
    with dspy.context(lm=DummyLM([{"tool": evil.strip(), "answer": "a"}] * 4)):
        report = explain(Agent(), question="?")
    assert evil.strip()[:1] in str(report.exception)
    assert all(character.isprintable() or character == "\n" for character in str(report))
    assert "no tool" in str(report)


def test_in_errors_and_warnings_of_ours(evil: str) -> None:
    for error in (ResumeError(f"row {evil}"), TargetError(evil), BlockingWarning(f"{evil}\nsecond")):
        assert is_shown(str(error), evil)
        assert is_shown(f"{error}", evil)
        assert error.args[0].startswith(("row", evil)), "what it is about stays what it is"


def test_in_a_timeline(evil: str, tmp_path: Path) -> None:
    made = timeline(
        (0, 2, None, "module", evil, {"error": evil, "inputs": f"{evil}\n{evil}"}),
        (0, 1, 0, "lm", evil),
        (0, 2, 0, "tool", evil),
        (1, 2, None, "blocked", evil, {"file": evil, "line": 1}),
    )
    for text in (made.text(300), str(made)):
        assert is_shown(text, evil)
    for name in ("x.txt", "x.svg", "x.html"):
        made.save(tmp_path / name)
        assert is_shown(html.unescape((tmp_path / name).read_text("utf-8")), evil), name
    made.save(tmp_path / "x.trace.json")
    trace = json.loads((tmp_path / "x.trace.json").read_text("utf-8"))["traceEvents"]
    assert all(str(event["name"]).isprintable() for event in trace)
    made.save(tmp_path / "x.json")
    assert Timeline.load(tmp_path / "x.json").spans[0].name == evil, "the record itself is exact"


def test_in_a_comparison(evil: str) -> None:
    run = Run(f"f({evil})", 1.0, [{evil: evil}], timeline((0, 1, None, "lm", evil)))
    other = Run("f()", 1.0, [{evil: "b"}], timeline((0, 0, None, "stop", f"a.py:1: {evil}", {"file": evil, "line": 1})))
    compared = Comparison(run, other, list(differences(run.outputs, other.outputs)))
    assert is_shown(plain(list(lines(compared, 100))), evil)
    page = html.unescape(html.unescape(as_html(evil, compared)))
    assert not set(page) & set(obeyed) - {"\n", "\t"}


def test_in_a_finding(evil: str) -> None:
    finding = Finding("blocks-loop", "warning", Place(f"{evil}.py", 3, evil), evil, evil, evil, evil)
    assert is_shown(str(finding), evil)


@pytest.mark.parametrize("command", [("doctor",), ("compare", "--input", "text=a")], ids=lambda command: command[0])
def test_in_a_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, evil: str, command: tuple[str, ...]) -> None:
    name = "".join(character for character in evil if character not in "\ud800/")
    try:
        (tmp_path / f"{name}.py").write_text(f"raise ValueError({evil!r})\n")
    except (OSError, ValueError):
        pytest.skip("no file can be called that")
    done = run_main(capsys, command[0], f"{tmp_path}/{name}.py:x", *command[1:])
    assert done.code == 2
    assert all(character.isprintable() or character == "\n" for character in done.out + done.err)
    assert "ValueError" in done.err


def test_a_progress_bar_has_numbers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(2, shown=True)
    bar.count_tokens({"\x1b[2Jmodel": {"total_tokens": 3}})
    bar.finished(1, failed=True)
    bar.close()
    assert "2Jmodel" not in capsys.readouterr().err


@given(st.text())
def test_whatever_it_is(text: str) -> None:
    assert escaped(text).isprintable()
    assert escaped(text, keep="\n").replace("\n", "").isprintable()
    assert all(character in escaped(text) for character in text if character.isalnum() and character.isascii())


def test_what_people_write_stays() -> None:
    written = "Ärger, 日本語, עברית, école – naïve “quotes” €, e\u0301, 👍🏽"
    assert escaped(written) == written
