"""Who hears what is logged: Python's own handlers that write it, or what may wait or be anybody's code."""

from __future__ import annotations

import io
import logging
import logging.handlers
import multiprocessing
import queue
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import explain
from dspy_parallel.analysis.effect_free import is_silent
from dspy_parallel.analysis.thread_needs import placement_for
from dspy_parallel.testing import LMServer

logger = logging.getLogger("tests.listeners")
adapter = logging.LoggerAdapter(logging.LoggerAdapter(logger, {}), {})


class Stream(io.StringIO):
    def write(self, text: str) -> int:
        return len(text)


class Styled(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return "x"


class Own(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None: ...


def with_(handler: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(handler, name, value)
    return handler


def filtered(keep: Any) -> logging.Handler:
    handler = logging.StreamHandler(io.StringIO())
    handler.addFilter(keep)
    return handler


class Wire(io.RawIOBase):
    """As a socket's file is one."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


UTC = with_(logging.Formatter("%(message)s"), converter=time.gmtime)
KNOWN: list[Callable[[Path], logging.Handler]] = [
    lambda path: logging.NullHandler(),
    lambda path: logging.StreamHandler(),
    lambda path: logging.StreamHandler(io.StringIO()),
    lambda path: with_(logging.StreamHandler(), formatter=logging.Formatter("{message}", style="{")),
    lambda path: with_(logging.StreamHandler(), formatter=UTC),
    lambda path: filtered(logging.Filter("tests")),
    lambda path: logging.FileHandler(path / "log"),
    lambda path: logging.handlers.RotatingFileHandler(path / "log"),
    lambda path: logging.handlers.TimedRotatingFileHandler(path / "log"),
    lambda path: logging.handlers.WatchedFileHandler(path / "log"),
    lambda path: logging.handlers.QueueHandler(queue.SimpleQueue()),
]
UNKNOWN: list[Callable[[Path], logging.Handler]] = [
    lambda path: Own(),
    lambda path: logging.handlers.SMTPHandler("localhost", "a@b", ["c@d"], "subject"),
    lambda path: logging.handlers.HTTPHandler("localhost", "/"),
    lambda path: logging.handlers.SocketHandler("localhost", 1),
    lambda path: logging.handlers.DatagramHandler("localhost", 1),
    lambda path: logging.handlers.SysLogHandler(("localhost", 1)),
    lambda path: logging.handlers.MemoryHandler(1, target=Own()),
    lambda path: logging.handlers.QueueHandler(multiprocessing.SimpleQueue()),
    lambda path: logging.StreamHandler(Stream()),
    lambda path: logging.StreamHandler(io.TextIOWrapper(io.BufferedWriter(Wire()))),
    lambda path: with_(logging.StreamHandler(), formatter=Styled()),
    lambda path: with_(logging.StreamHandler(), emit=lambda record: None),
    lambda path: filtered(lambda record: True),
    lambda path: with_(logging.handlers.RotatingFileHandler(path / "log"), rotator=lambda a, b: None),
]
NAME = "tests.listeners"
LOG: list[Callable[[str], Any]] = [
    lambda q: logger.info(q),
    lambda q: adapter.warning(q),
    lambda q: logging.getLogger("tests.listeners").info(q),
    lambda q: logging.getLogger("tests.listeners.below.it").info(q),
    lambda q: logging.getLogger(NAME).info(q),
]


@pytest.fixture
def listened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    def listen(make: Callable[[Path], logging.Handler]) -> None:
        monkeypatch.setattr(logger, "handlers", [make(tmp_path)])

    yield listen
    for handler in logger.handlers:
        handler.close()


@pytest.mark.parametrize("make", KNOWN)
def test_what_writes_is_known(make: Any, listened: Any) -> None:
    listened(make)
    assert is_silent(logger.info)
    assert [placement_for(log, ("?",)).engine for log in LOG[:4]] == ["loop"] * 4


@pytest.mark.parametrize("make", UNKNOWN)
def test_what_may_wait_or_is_anybodys_is_not(make: Any, listened: Any) -> None:
    assert is_silent(logger.info)
    assert placement_for(LOG[0], ("?",)).engine == "loop"
    listened(make)
    assert not is_silent(logger.info)
    assert [placement_for(log, ("?",)).engine for log in LOG] == ["thread"] * 5


@pytest.mark.parametrize("name", ["callHandlers", "handle", "makeRecord"])
def test_hooks_in_logging(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As error trackers have them, on the class or on one logger."""
    for owner in (logging.Logger, logger):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, lambda *args, **kwargs: None)
            assert not is_silent(logger.info)
    with monkeypatch.context() as patch:
        patch.setattr(logging, "_logRecordFactory", lambda *args: logging.LogRecord(*args))
        assert not is_silent(logger.info)
    assert is_silent(logger.info)


def test_print_into_what_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_silent(print)
    assert placement_for(lambda q: print(q), ("?",)).engine == "loop"
    monkeypatch.setattr(sys, "stdout", Stream())
    assert not is_silent(print)
    assert placement_for(lambda q: print(q), ("?",)).engine == "thread"


class Logs(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = dspy.Predict("x -> y"), dspy.Predict("x -> z")

    def forward(self, x: str) -> dspy.Prediction:
        one = self.a(x=x).y
        logger.info("asked")
        return dspy.Prediction(one=one, two=self.b(x=x).z)


@pytest.mark.parametrize("make", [KNOWN[2], UNKNOWN[0]])
def test_the_scout_does_not_pass_what_is_not_known(make: Any, listened: Any) -> None:
    listened(make)
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        assert [why for _, why in explain(Logs(), x="q").reasons] == (
            [] if make is KNOWN[2] else ["Logger.info may have effects"]
        )
