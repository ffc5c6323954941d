"""Every command that is shown to readers exists, and takes the options that it is shown with."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import itertools
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from dspy_parallel import cli
from dspy_parallel.testing import __main__ as serving
from dspy_parallel.testing import server_process
from tests.support.examples import PAGES, ROOT, blocks_of, named

pytestmark = pytest.mark.once

Parse = Callable[[list[str]], None]

SOURCES = sorted(file for top in ("dspy_parallel", "benchmarks", "examples") for file in (ROOT / top).rglob("*.py"))
SPAN = re.compile(r"`((?:dspy-parallel|python -m|pip install|tox|mkdocs|--[a-z])[^`\n]*)`")


def split(line: str) -> Iterator[list[str]]:
    """The commands of a line of shell, in words; programs without their directory."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for between, words in itertools.groupby(lexer, lambda word: word in ("&&", "|", ";")):
        if not between:
            program, *arguments = words
            yield [Path(program).name, *arguments]


def lines() -> Iterator[tuple[Path, str]]:
    """What one types: in console blocks, and in the texts of modules and of `--help`."""
    for file in (*PAGES, *SOURCES):
        for block in blocks_of(file, "console"):
            yield from ((file, line[2:]) for line in block.text.splitlines() if line.startswith("$ "))
    for file in SOURCES:
        text = file.read_text(encoding="utf-8").replace("\\\n", "")
        for line in re.findall(r'^ {2,4}((?:dspy-parallel|python -m) [^\n"]*)', text, re.MULTILINE):
            yield file, line


def spans() -> Iterator[tuple[Path, str]]:
    """What stands between backticks."""
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        yield from ((page, span) for span in SPAN.findall(text))


TYPED = sorted({(named(file), shlex.join(words)) for file, line in lines() for words in split(line)})
MENTIONED = sorted(
    {(named(file), shlex.join(words)) for file, span in spans() if span[0] != "-" for words in split(span)}
)


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Has the real parsers read a command line of ours, and nothing done about it."""

    async def nothing(*args: object, **options: object) -> None:
        pass

    for command in (cli.compare_command, cli.demo_command, cli.doctor_command, cli.run_command):
        monkeypatch.setattr(command, "run" if hasattr(command, "run") else "_run", lambda options: 0)
    monkeypatch.setattr(server_process, "run", lambda *args, **options: None)
    monkeypatch.setattr(benchmarks, "_run", nothing)

    def parse(words: list[str]) -> None:
        if words[0] == "dspy-parallel":
            cli.main(words[1:])
        elif words[2] == "dspy_parallel.testing":
            serving.main(words[3:])
        else:
            monkeypatch.setattr(sys, "argv", words[2:])
            benchmarks.main()

    return parse


def is_parsed(words: list[str]) -> bool:
    return words[0] == "dspy-parallel" or words[1:3] in (["-m", "benchmarks"], ["-m", "dspy_parallel.testing"])


def help_of(parse: Parse, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as ended:
        parse([*words, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def check(words: list[str]) -> None:
    """A command whose parser is not ours, as far as it depends on what is here."""
    match words:
        case ["python" | "python3", "-m", module, *arguments]:
            found = importlib.util.find_spec(module)
            assert found, f"no module {module}"
            assert not found.submodule_search_locations or importlib.util.find_spec(f"{module}.__main__")
            if module == "pytest":
                paths = [path for path in arguments if not path.startswith("-") and not path.isdigit()]
                assert all((ROOT / path).exists() for path in paths)
        case ["pip", "install", *what]:
            there = importlib.metadata.metadata("dspy-parallel").get_all("Provides-Extra") or []
            for group in re.findall(r"\[([\w,]+)\]", " ".join(what)):
                assert set(group.split(",")) <= set(there), f"no such extra: {group}"
        case ["tox", "-e", names]:
            assert [name for name in names.split(",") if not tox_has(name)] == []
        case _:
            assert words in (["tox"], ["mkdocs", "serve"], ["pre-commit", "install"]), "nothing here knows this command"


def tox_has(name: str) -> bool:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    factors = {word for _, line in tox.items("testenv") for word in re.findall(r"^!?(\w+):", line, re.MULTILINE)}
    for prefix, numbers in re.findall(r"([a-z]+)\{([\d,]+)\}", tox["tox"]["env_list"]):
        factors |= {prefix + number for number in numbers.split(",")}
    return f"testenv:{name}" in tox or set(name.split("-")) <= factors


@pytest.mark.parametrize(("place", "command"), TYPED)
def test_what_is_typed(place: str, command: str, parse: Parse) -> None:
    """Complete, as it stands."""
    words = shlex.split(command)
    if is_parsed(words):
        parse(words)
    else:
        check(words)


@pytest.mark.parametrize(("place", "command"), MENTIONED)
def test_what_is_mentioned(place: str, command: str, parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    """By its name, perhaps with an option, but not always complete."""
    words = shlex.split(command)
    if not is_parsed(words):
        return check(words)
    known = help_of(parse, capsys, *words[: 2 if words[0] == "dspy-parallel" else 3])
    assert [word for word in words if word.startswith("--") and word not in known] == []
    if words[1:3] == ["-m", "benchmarks"]:
        parse(words)


def test_options_that_are_mentioned_alone(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is that of some command."""
    commands = [("dspy-parallel", name) for name in ("demo", "doctor", "compare", "run", "serve")]
    known = "".join(help_of(parse, capsys, *words) for words in (*commands, ("python", "-m", "benchmarks")))
    known += "".join(file.read_text(encoding="utf-8") for file in (ROOT / "examples").rglob("__main__.py"))
    unknown = [
        (named(page), span)
        for page, span in spans()
        if span[0] == "-" and not re.search(rf"{span.split()[0]}(?![\w-])", known)
    ]
    assert not unknown


@pytest.mark.parametrize(
    "command",
    [
        "dspy-parallel demo --fast",
        "dspy-parallel compare",
        "dspy-parallel serve --port x",
        "python -m dspy_parallel.testing --option max_concurency=8",
        "python -m benchmarks heartbeats",
    ],
)
def test_a_wrong_command_line_is_noticed(command: str, parse: Parse) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(shlex.split(command))
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "command", ["python -m examples.level_agent", "pip install 'dspy-parallel[lang]'", "tox -e py39", "dspy demo"]
)
def test_a_command_that_is_not_there_is_noticed(command: str) -> None:
    with pytest.raises(AssertionError):
        check(shlex.split(command))
