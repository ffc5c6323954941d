"""The resume file: what is run again, what is recognised, what is refused, and files that end anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import enum
import errno
import itertools
import os
import re
import sqlite3
import sys
import uuid
import zoneinfo
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

from dspy_parallel import BatchInputError, ResumeError, abatch, batch, iter_batch
from dspy_parallel.batches.resume_file import ResumeFile
from tests.batch.programs import Ask, StubLM, questions
from tests.support.children import PRELOADED, run_child

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
    calls = itertools.count(1)

    class Program:
        """Its state is the same before each batch."""

        def __getstate__(self) -> None:
            return None

        def __call__(self, n: int) -> int:
            return next(calls)

    program = Program()
    file = tmp_path / "results.jsonl"
    first = batch(program, [(1,), (1,), (2,), (1,)], max_in_flight=1, progress=False, resume=file)
    assert first == [1, 2, 3, 4]
    again = batch(program, [(2,), (1,), (1,), (1,), (1,)], max_in_flight=1, progress=False, resume=file)
    assert again == [3, 1, 2, 4, 5]


def test_what_failed_is_run_again(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    failing = tmp_path / "failing"
    failing.touch()

    def program(n: int) -> int:
        if n == 1 and failing.exists():
            raise ValueError(n)
        return n

    assert isinstance(batch(program, [(0,), (1,)], on_error="return", progress=False, resume=file)[1], ValueError)
    with pytest.raises(ValueError):
        batch(program, [(0,), (1,)], progress=False, resume=file)
    failing.unlink()
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
    # All around the ends of lines, and some in between.
    near = {end + by for end in (0, *lines) for by in range(-3, 4)}
    for size in sorted(near & {*range(len(whole) + 1)} | {*range(0, len(whole), 23)}):
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
    datetime.datetime(2024, 10, 27, 2, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"), fold=1),
    datetime.datetime(2024, 10, 27, 2, 30, fold=1),
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


class Hidden(pydantic.BaseModel):
    shown: int = 1
    kept: int = pydantic.Field(2, exclude=True)


class Breaking(pydantic.BaseModel):
    @pydantic.model_serializer
    def broken(self) -> dict[str, Any]:
        raise KeyError("no")


@dataclasses.dataclass
class Doubling:
    size: int

    def __post_init__(self) -> None:
        self.size *= 2


class Local:
    pass


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (object(), "result is of type"),
        ({"a": [Local()]}, r"result\.a\.0 is of type"),
        (Hidden(kept=3), "its own JSON does not give again"),
        (Breaking(), "PydanticSerializationError"),
        (Doubling(1), "its own fields do not give again"),
        (datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "mine")), "is of type"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_result_that_cannot_be_written_is_an_error_of_its_row(tmp_path: Path, value: Any, where: str) -> None:
    """The other rows are finished and kept, and nothing is lost: the result stands beside the error."""

    class Program:
        def __getstate__(self) -> None:  # the same, whatever it holds
            return None

        def __call__(self, n: int) -> Any:
            return n if n != 1 else value

    file, rows = tmp_path / "results.jsonl", [(0,), (1,), (2,)]
    found = batch(Program(), rows, on_error="return", progress=False, resume=file)
    assert found[::2] == [0, 2]
    assert isinstance(found[1], ResumeError)
    assert re.search(f"example 1 cannot be written .*{where}", str(found[1]))
    items = list(iter_batch(Program(), rows, on_error="return", ordered=True, progress=False, resume=file))
    assert [item.resumed for item in items] == [True, False, True]
    assert items[1].result is value
    with pytest.raises(ResumeError, match="example 1 cannot be written"):
        batch(Program(), rows, progress=False, resume=file)


def test_a_full_disk_ends_the_batch_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, write = tmp_path / "results.jsonl", os.write
    batch(identity, [(0,)], progress=False, resume=file)
    before = file.read_bytes()

    def half(fd: int, line: bytes) -> int:
        if not line.startswith(b'{"key"'):
            raise OSError(errno.ENOSPC, "full")
        return write(fd, line[:20])

    monkeypatch.setattr("dspy_parallel.batches.resume_file.os.write", half)
    with pytest.raises(OSError, match="full"):
        batch(identity, [(0,), (1,), (2,)], on_error="return", progress=False, resume=file)
    monkeypatch.undo()
    assert file.read_bytes() == before
    assert batch(identity, [(0,), (1,)], progress=False, resume=file) == [0, 1]


def test_files_of_others_are_refused(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    answers(questions(1), file)
    assert file.stat().st_mode & 0o777 == 0o600
    lm.asked.clear()
    with pytest.raises(ResumeError, match="written for another program"):
        answers(questions(2), file, dspy.Predict("question -> answer"))
    changed = Ask()
    changed.ask.demos = [dspy.Example(question="a", answer="b")]
    with pytest.raises(ResumeError, match=r"another state of the program: its attribute .ask. is not the same"):
        answers(questions(2), file, changed)
    assert lm.asked == []
    other_lm = Ask()
    other_lm.set_lm(lm)
    answers(questions(1), file, other_lm)  # where the answers come from may change
    assert lm.asked == []

    table = tmp_path / "table.csv"
    for content in ("question,answer\n1,2\n", "no line end", '{"json": true}\n', "[]\n", "\n"):
        table.write_text(content)
        with pytest.raises(ResumeError, match="is not a resume file"):
            answers(questions(1), table)
        assert table.read_text() == content
    table.write_text('{"dspy_parallel":1,"program":"tests.batch.programs.Ask","state":"00"}\n')
    with pytest.raises(ResumeError, match="in another format: 1, not 2"):
        answers(questions(1), table)


def test_a_program_that_cannot_be_told_from_others_is_refused_before_the_first_call(tmp_path: Path) -> None:
    calls: list[int] = []

    class Agent:
        def __init__(self, client: Any) -> None:
            self.client = client

        def run(self, n: int) -> None:
            calls.append(n)

    for client in ((n for n in ()), sqlite3.connect(":memory:")):
        with contextlib.closing(client), pytest.raises(ResumeError, match="its attribute 'client' is of type"):
            batch(Agent(client).run, [(1,)], progress=False, resume=tmp_path / "results.jsonl")
    assert calls == []
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace(b"q2!", b"q9!"),
        lambda line: line.replace(b'"index":2', b'"index":3'),
        lambda line: line[:-20] + b"\n",
        lambda line: b"\n",
        lambda line: b"\x00" * 99 + b"\n",
        lambda line: b"[" * 100_000 + b"\n",
        lambda line: b'{"key":"a.0","index":0,"result":1}\n',
    ],
)
@pytest.mark.parametrize("number", [2, 4, 6])
def test_a_line_that_is_damaged_or_edited_is_named(lm: StubLM, tmp_path: Path, damage: Any, number: int) -> None:
    """Also the last, if it has its end; a line that is taken out is run again."""
    file = tmp_path / "results.jsonl"
    answers([{"question": "q2"}, *questions(4)], file, max_in_flight=1)
    lm.asked.clear()
    lines = file.read_bytes().splitlines(keepends=True)
    damaged = damage(lines[number - 1])
    changed = damaged != lines[number - 1]
    file.write_bytes(b"".join([*lines[: number - 1], damaged, *lines[number:]]))
    if changed:
        with pytest.raises(ResumeError, match=f"^Line {number} of .* is damaged, or has been edited"):
            answers(questions(4), file)
    assert lm.asked == []
    file.write_bytes(b"".join([*lines[: number - 1], *lines[number:]]))
    answers([{"question": "q2"}, *questions(4)], file, max_in_flight=1)
    assert len(lm.asked) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no locks there")
def test_a_file_in_use_is_refused(lm: StubLM, tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    mine = ResumeFile(file, Ask())
    with pytest.raises(ResumeError, match="in use by another batch"):
        answers(questions(1), file)
    mine.close()
    assert answers(questions(1), file) == ["q0!"]


def test_the_file_does_not_decide_what_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a class another one by now without a word."""
    file, rows = tmp_path / "results.jsonl", [(Part(name="lid"),)]
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with monkeypatch.context() as before:
        before.setattr("dspy_parallel.batches.json_forms._path", lambda *_: "evil:Part")
        batch(identity, rows, progress=False, resume=file)
    with pytest.raises(ResumeError, match=r"^Line 2 of .* cannot be read: .*evil:Part.* not known here"):
        batch(identity, rows, progress=False, resume=file)
    file.unlink()
    batch(identity, rows, progress=False, resume=file)
    monkeypatch.setattr(f"{__name__}.Part", Hidden)
    monkeypatch.setattr(Hidden, "model_config", {"extra": "forbid"})
    Hidden.model_rebuild(force=True)
    with pytest.raises(ResumeError, match=r"^Line 2 of .* cannot be read: ValidationError"):
        batch(identity, rows, progress=False, resume=file)


def identity(value: Any) -> Any:
    return value


def test_ctrl_c_ends_a_batch_cleanly(tmp_path: Path) -> None:
    """The process ends by the interrupt; what was done is in the file."""
    file = tmp_path / "results.jsonl"
    script = f"""
    import asyncio, os, signal, sys, threading
    from dspy_parallel import await_, iter_batch

    begun, taken, noticed = threading.Semaphore(0), threading.Event(), threading.Event()
    main = threading.get_ident()

    def notice(*_):
        if not noticed.is_set():  # one was sent again before the first was noticed
            noticed.set()
            raise KeyboardInterrupt

    def interrupt():
        for _ in range(10):
            begun.acquire()
        taken.wait()
        while sys._current_frames()[main].f_code.co_name != "wait":
            pass
        while not noticed.wait(0.2):  # Python misses a signal that comes just before it waits for a lock
            os.kill(os.getpid(), signal.SIGINT)

    def program(n):
        begun.release()
        try:
            await_(asyncio.sleep(0 if n < 5 else 60))
        except asyncio.CancelledError:
            os.write(1, f"unwound {{n}}\\n".encode())  # in one piece: others do the same, in other threads
            raise
        return n

    signal.signal(signal.SIGINT, notice)
    threading.Thread(target=interrupt).start()
    items = iter_batch(program, [(n,) for n in range(10)], max_in_flight=10, resume={str(file)!r})
    try:
        for number, _ in enumerate(items, 1):
            if number == 5:
                taken.set()
    except KeyboardInterrupt:
        os.write(1, b"interrupted\\n")
    """
    ended = run_child(script, python=PRELOADED)
    assert sorted(ended.out.split("\n")) == ["", "interrupted", *(f"unwound {n}" for n in range(5, 10))]
    assert "Traceback" not in ended.err
    assert file.read_text().count('"result"') == 5
