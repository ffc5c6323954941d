"""The resume file: what is run again, what is recognised, what is refused, and files that end anywhere."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import decimal
import enum
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_parallel import BatchInputError, ResumeError, abatch, batch, iter_batch
from dspy_parallel.batches.resuming import ResumeFile
from tests.batch.programs import Ask, StubLM, questions

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets that LiteLLM's client has left open
    ),
    pytest.mark.usefixtures("no_leaks"),
]


def answers(rows: Any, file: Path, program: Any = None, **options: Any) -> list[Any]:
    results = batch(program or Ask(), rows, progress=False, resume=file, **options)
    return [getattr(each, "answer", each) for each in results]


def test_a_rerun_does_only_what_is_missing(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert answers(questions(5), file) == [f"q{n}!" for n in range(5)]
    lm.asked.clear()
    # Others in between, another order, and fewer: examples are known by their content.
    rows = [*reversed(questions(4)), {"question": "new"}]
    assert answers(rows, file) == ["q3!", "q2!", "q1!", "q0!", "new!"]
    assert lm.asked == ["new"]


def test_a_generator_and_async_code_resume_as_well(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    answers(questions(5), file)
    lm.asked.clear()
    assert [item.resumed for item in iter_batch(Ask(), iter(questions(6)), progress=False, resume=file)].count(
        True
    ) == 5

    async def main() -> list[bool]:
        return [item.resumed async for item in abatch(Ask(), iter(questions(6)), progress=False, resume=file)]

    assert asyncio.run(main()) == [True] * 6
    assert lm.asked == ["q5"]


def test_results_of_an_earlier_run_are_handed_out_while_rows_are_read(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    batch(identity, [(n,) for n in range(50)], progress=False, resume=file)
    read: list[int] = []

    def rows() -> Any:
        for number in range(50):
            read.append(number)
            yield (number,)

    async def main() -> None:
        async for item in abatch(identity, rows(), max_in_flight=5, progress=False, resume=file):
            assert item.result == item.index == read[-1]

    asyncio.run(main())
    for item in iter_batch(identity, rows(), max_in_flight=5, progress=False, resume=file):
        assert item.index == read[-1]


def test_equal_examples_have_results_of_their_own(tmp_path: Path) -> None:
    calls = []

    def program(n: int) -> int:
        calls.append(n)
        return len(calls)

    file = tmp_path / "results.jsonl"
    first = batch(program, [(1,), (1,), (2,), (1,)], max_in_flight=1, progress=False, resume=file)
    assert first == [1, 2, 3, 4]
    again = batch(program, [(2,), (1,), (1,), (1,), (1,)], max_in_flight=1, progress=False, resume=file)
    assert again == [3, 1, 2, 4, 5]


def test_what_failed_is_run_again(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    failing = True

    def program(n: int) -> int:
        if failing and n == 1:
            raise ValueError(n)
        return n

    assert isinstance(batch(program, [(0,), (1,)], on_error="return", progress=False, resume=file)[1], ValueError)
    with pytest.raises(ValueError):
        batch(program, [(0,), (1,)], progress=False, resume=file)
    failing = False
    assert batch(program, [(0,), (1,)], progress=False, resume=file) == [0, 1]


def test_what_was_done_when_an_error_ended_the_batch_is_kept(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with pytest.raises(ValueError, match="bad"):
        answers([*questions(3), {"question": "bad"}], file)
    lm.asked.clear()
    assert answers(questions(3), file) == ["q0!", "q1!", "q2!"]
    assert lm.asked == []


def test_a_file_cut_off_at_any_byte_is_continued(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    rows = [{"question": "ä"}, {"question": "q1"}]
    wanted = answers(rows, file)
    whole = file.read_bytes()
    lines = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        lm.asked.clear()
        assert answers(rows, file) == wanted, size
        # A line is a result once its closing brace is written.
        assert len(lm.asked) == sum(size < end for end in lines[1:]), size
        lm.asked.clear()
        assert answers(rows, file) == wanted
        assert lm.asked == []


class Colour(enum.Enum):
    RED = "red"


class Part(pydantic.BaseModel):
    name: str
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Box:
    parts: list[Part]
    size: tuple[int, int] = (1, 2)


VALUES: list[Any] = [
    None,
    True,
    1,
    1.5,
    "text ä \u2028 \U0001f600",
    [1, [2]],
    (1, (2,)),
    {"a": {"b": 1}},
    {1: "one", (2, 3): "two"},
    {"$set": "a key that looks like a mark"},
    {1, 2},
    frozenset({"a"}),
    b"\x00\xff",
    datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.timezone.utc),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3),
    decimal.Decimal("1.10"),
    uuid.UUID(int=5),
    Colour.RED,
    Part(name="lid"),
    Box([Part(name="lid")]),
    dspy.Prediction(answer="yes", score=0.5, parts=[Part(name="lid")]),
    dspy.Prediction.from_completions({"answer": ["a", "b"]}),
    dspy.Example(question="q", answer="a").with_inputs("question"),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_results_come_back_as_they_were(tmp_path: Path, value: Any) -> None:
    file = tmp_path / "results.jsonl"
    batch(lambda n: value, [(1,)], progress=False, resume=file)
    (back,) = batch(lambda n: value, [(1,)], progress=False, resume=file)
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)
    assert file.read_bytes().count(b"\n") == 2


def test_usage_and_completions_come_back(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    with dspy.context(track_usage=True):
        (plain,) = batch(Ask(), questions(1), progress=False, resume=file)
        (back,) = batch(Ask(), questions(1), progress=False, resume=file)
    assert back.get_lm_usage() == plain.get_lm_usage() != {}
    assert dict(back.completions.items()) == dict(plain.completions.items())


@pytest.mark.parametrize("rows", [list, iter], ids=["list", "iterator"])
def test_inputs_that_cannot_be_serialised(lm: StubLM, tmp_path: Path, rows: Any) -> None:
    """Of a list, before the first call; of an iterator, when it is reached: what is before it is done and kept."""
    wrong, file = {"question": object()}, tmp_path / "results.jsonl"
    with pytest.raises(BatchInputError, match=r"Example 2 cannot be serialised: inputs\.1\.question is of type"):
        answers(rows([*questions(2), wrong, {"question": "behind"}]), file, dspy.Predict("question -> answer"))
    done = [] if rows is list else ["q0", "q1"]
    assert sorted(lm.asked) == done
    lm.asked.clear()
    assert answers(questions(2), file, dspy.Predict("question -> answer")) == ["q0!", "q1!"]
    assert sorted(lm.asked) == ([] if done else ["q0", "q1"])


async def test_inputs_of_an_async_iterable_that_cannot_be_serialised(lm: StubLM, tmp_path: Path) -> None:
    async def rows() -> Any:
        yield {"question": "q0"}
        yield {"question": object()}

    items = abatch(dspy.Predict("question -> answer"), rows(), progress=False, resume=tmp_path / "results.jsonl")
    with pytest.raises(BatchInputError, match="Example 1 "):
        [item async for item in items]
    assert lm.asked == ["q0"]


def test_results_that_cannot_be_written(tmp_path: Path) -> None:
    class Local(pydantic.BaseModel):
        x: int = 1

    for value, where in ((object(), "result is of type"), ({"a": [Local()]}, r"result\.a\.0 is a .*Local")):
        with pytest.raises(ResumeError, match=f"example 0 cannot be written .*{where}"):
            batch(lambda n, value=value: value, [(1,)], on_error="return", progress=False, resume=tmp_path / "r.jsonl")


def test_files_of_others_are_refused(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    answers(questions(1), file)
    with pytest.raises(ResumeError, match="written for another program"):
        answers(questions(1), file, dspy.Predict("question -> answer"))
    changed = Ask()
    changed.ask.demos = [dspy.Example(question="a", answer="b")]
    with pytest.raises(ResumeError, match="written for another state of the program"):
        answers(questions(1), file, changed)
    other_lm = Ask()
    other_lm.set_lm(lm)
    answers(questions(1), file, other_lm)  # where the answers come from may change

    table = tmp_path / "table.csv"
    for content in ("question,answer\n1,2\n", "no line end", '{"json": true}\n'):
        table.write_text(content)
        with pytest.raises(ResumeError, match="is not a resume file"):
            answers(questions(1), table)
        assert table.read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_file_in_use_is_refused(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    mine = ResumeFile(file, Ask())
    with pytest.raises(ResumeError, match="in use by another batch"):
        answers(questions(1), file)
    mine.close()
    assert answers(questions(1), file) == ["q0!"]


def test_the_file_does_not_decide_what_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    batch(identity, [(Part(name="lid"),)], progress=False, resume=file)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    forged = (
        file.read_bytes()
        .replace(b"tests.batch.test_resume:Part", b"evil:Part")
        .replace(f"{__name__}:Part".encode(), b"evil:Part")
    )
    file.write_bytes(forged)
    with pytest.raises(ResumeError, match="not known here"):
        batch(identity, [(Part(name="lid"),)], progress=False, resume=file)


def identity(value: Any) -> Any:
    return value


def test_ctrl_c_ends_a_batch_cleanly(tmp_path: Path) -> None:
    """The process ends by the interrupt; what was done is in the file."""
    script = """
import os, signal, sys, threading
from dspy_parallel import await_, batch
import asyncio

def program(n):
    try:
        await_(asyncio.sleep(0 if n < 5 else 60))
    except asyncio.CancelledError:
        os.write(1, f"unwound {n}\\n".encode())  # in one piece: others do the same, in other threads
        raise
    if n == 4:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    return n

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    batch(program, [(n,) for n in range(10)], max_in_flight=10, resume=sys.argv[1])
except KeyboardInterrupt:
    os.write(1, b"interrupted\\n")
"""
    file = tmp_path / "results.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split("\n")) == ["", "interrupted", *(f"unwound {n}" for n in range(5, 10))]
    assert "Traceback" not in done.stderr
    assert file.read_text().count('"result"') == 5
