"""loguru and structlog: known outputs do not hold up the scout, and anybody's code that is told does."""

from __future__ import annotations

import functools
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import explain
from dspy_parallel.analysis.effect_free import is_silent
from dspy_parallel.analysis.third_party_loggers import method_of
from dspy_parallel.testing import LMServer
from tests.overlap.observing import assert_same, observe
from tests.support.timed_lm import TimedLM, always

logger: Any = pytest.importorskip("loguru").logger
structlog: Any = pytest.importorskip("structlog")
pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")

WRITTEN = io.StringIO()
log = structlog.get_logger()
FORMAT = "{level} {extra} {message}"


@pytest.fixture(autouse=True)
def plain_loggers() -> Iterator[None]:
    """Both write into `WRITTEN`, without the time."""

    def reset() -> None:
        WRITTEN.seek(0)
        WRITTEN.truncate()
        logger.remove()
        logger.configure(extra={})
        logger._core.patcher = None  # type: ignore[attr-defined]
        structlog.reset_defaults()
        vars(log).pop("bind", None)  # which it has cached

    reset()
    before = logging.getLoggerClass()
    logger.add(WRITTEN, format=FORMAT)
    configure()
    yield
    reset()
    logging.setLoggerClass(before)  # structlog's factory sets one


def configure(*before: Any, renderer: Any = None, output: Any = None, **options: Any) -> None:
    processors = [structlog.processors.add_log_level, *before, renderer or structlog.dev.ConsoleRenderer(colors=False)]
    factory = output or structlog.PrintLoggerFactory(WRITTEN)
    structlog.configure(processors=processors, logger_factory=factory, **options)


class Base(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = dspy.Predict("x -> y"), dspy.Predict("x -> z")
        self.loguru = logger.bind(who="loguru")
        self.structlog = structlog.get_logger().bind(who="structlog")


class Formats(Base):
    def forward(self, x: str) -> Any:
        logger.info("begins")
        one = self.a(x=x).y
        logger.info("said {} and {x!r:>9}", one, x=x)
        two = self.b(x=x).z
        logger.warning(f"{one} {{}} {two}")
        return one, two


class Binds(Base):
    def forward(self, x: str) -> Any:
        bound = logger.bind(x=x)
        one = self.a(x=x).y
        bound.bind(one=one).success("said {one}", one=[one])
        self.loguru.opt(depth=1).debug("held")
        return one, self.b(x=x).z


class Events(Base):
    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        structlog.get_logger("any", of="get").info("event", one=one, more={"k": [one, 1.5, None]})
        log.error("global", x=x)
        two = self.b(x=x).z
        self.structlog.bind(two=two).warning("held", one=one)
        return one, two


class Branches(Base):
    """What is logged in a branch on a reply is looked through before the branch is known."""

    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        if "a" in one:
            structlog.get_logger().info("one", one=one)
            logger.bind(x=x).info("one")
        else:
            log.bind(one=one).info("other")
            self.loguru.info("other")
        return one, self.b(x=x).z


class Raises(Base):
    """loguru formats before its sinks are told: what it raises is the program's."""

    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        try:
            logger.info("{} {}", one)
        except IndexError:
            one += "!"
        two = self.b(x=x).z
        logger.info("{missing}", found=two)
        return self.a(x=two)


def seen(make: Any, way: Any) -> tuple[Any, str]:
    WRITTEN.seek(0)
    WRITTEN.truncate()
    found = observe(make, {"x": "word"}, TimedLM(latency=always(1.0)), way, effects=lambda _: WRITTEN.getvalue())
    return found, WRITTEN.getvalue()


@pytest.mark.parametrize(
    ("make", "seconds", "lines"), [(Formats, 1, 3), (Binds, 1, 2), (Events, 1, 3), (Branches, 1, 2), (Raises, 0, 0)]
)
def test_same_lines_sooner(make: Any, seconds: int, lines: int) -> None:
    expected, written = seen(make, "sequential")
    found, again = seen(make, "overlapped")
    assert_same(expected, found)
    assert found.requests == expected.requests
    assert again == written
    assert len(written.splitlines()) == lines
    assert (found.sequentially, found.seconds) == (2, seconds)


def as_json(sink: Any, **options: Any) -> Any:
    return logger.add(sink, serialize=True, **options)


LOGURU: list[Callable[[Path], Any]] = [
    lambda path: logger.add(sys.stderr),
    lambda path: logger.add(sys.stdout, colorize=True, backtrace=False, diagnose=False),
    lambda path: logger.add(path / "log", rotation="1 MB", retention=3, delay=True),
    lambda path: logger.add(path / "{time}.log", watch=True),
    lambda path: logger.add(io.StringIO(), filter="tests"),
    lambda path: logger.add(io.StringIO(), filter={"tests": "INFO", "": False}),
    lambda path: as_json(io.StringIO()),
]


class Stream(io.StringIO):
    def write(self, text: str) -> int:
        return super().write(text)


class Own(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None: ...


async def send(message: Any) -> None: ...


LOGURU_UNKNOWN: list[Callable[[Path], Any]] = [
    lambda path: logger.add(lambda message: None),
    lambda path: logger.add(send),
    lambda path: logger.add([].append),
    lambda path: logger.add(Stream()),
    lambda path: logger.add(Own()),
    lambda path: logger.add(io.StringIO(), filter=lambda record: True),
    lambda path: logger.add(io.StringIO(), format=lambda record: "{message}"),
    lambda path: logger.add(io.StringIO(), catch=False),
    lambda path: logger.add(path / "log", rotation=lambda message, file: False),
    lambda path: logger.add(path / "log", opener=lambda name, flags: 0, delay=True),
    lambda path: logger.configure(patcher=lambda record: None),
]


@pytest.mark.parametrize("add", LOGURU)
def test_sinks_that_write(add: Any, tmp_path: Path) -> None:
    add(tmp_path)
    assert is_silent(logger.info)
    assert is_silent(logger.bind(x=1).opt(depth=1, raw=True).error)


@pytest.mark.parametrize("add", LOGURU_UNKNOWN)
def test_sinks_of_the_users_own(add: Any, tmp_path: Path) -> None:
    assert is_silent(logger.info)
    add(tmp_path)
    assert not is_silent(logger.info)
    assert not is_silent(logger.bind(x=1).info)


def test_methods_that_run_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of exceptions loguru prints all variables; `lazy` calls what it is given."""
    assert not any(map(is_silent, (logger.exception, logger.opt(exception=True).info, logger.add, logger.catch)))
    assert not any(
        map(is_silent, (logger.opt(lazy=True).info, logger.opt(colors=True).info, logger.opt(record=True).info))
    )
    assert not is_silent(logger.patch(lambda record: None).info)
    assert is_silent(logger.info)
    monkeypatch.setattr(type(logger), "_log", lambda *args, **kwargs: None)
    assert not is_silent(logger.info)


def silent(name: str = "info", logger: Any = log) -> bool:
    return is_silent(method_of(logger, name))


class Repeated(structlog.PrintLogger):
    """An output of the user's own."""


@pytest.mark.parametrize(
    "known",
    [
        structlog.reset_defaults,
        functools.partial(configure, renderer=structlog.processors.JSONRenderer(sort_keys=True)),
        functools.partial(configure, renderer=structlog.processors.KeyValueRenderer(key_order=["event"])),
        functools.partial(configure, structlog.processors.TimeStamper(fmt="iso"), cache_logger_on_first_use=True),
        functools.partial(configure, structlog.contextvars.merge_contextvars),
        functools.partial(configure, wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR)),
        functools.partial(configure, output=structlog.WriteLoggerFactory(WRITTEN)),
    ],
)
def test_processors_that_write(known: Any) -> None:
    known()
    for each in (log, structlog.get_logger("name", x=1), log.bind(x=1), structlog.get_logger().bind(x=1).bind(y=2)):
        assert silent("info", each)
    assert not silent("exception")
    assert not silent("log")


@pytest.mark.parametrize(
    "unknown",
    [
        functools.partial(configure, lambda logger, name, event: event),
        functools.partial(configure, structlog.stdlib.filter_by_level),  # fails with what is no logger of `logging`
        functools.partial(configure, structlog.processors.LogfmtRenderer()),  # refuses keys
        functools.partial(configure, renderer=structlog.processors.JSONRenderer(serializer=lambda event, **_: "")),
        functools.partial(configure, renderer=structlog.processors.JSONRenderer(default=lambda value: "")),
        functools.partial(configure, output=structlog.PrintLoggerFactory(Stream())),
        functools.partial(configure, output=lambda *args: structlog.PrintLogger(WRITTEN)),
        lambda: configure(output=structlog.stdlib.LoggerFactory()),
        functools.partial(configure, wrapper_class=structlog.stdlib.BoundLogger),
        functools.partial(configure, context_class=type("Context", (dict,), {})),
    ],
)
def test_processors_of_the_users_own(unknown: Any) -> None:
    assert silent()
    unknown()
    assert not silent()


HEARD: list[str] = []


class Heard(Base):
    """The second call depends on what a sink was told."""

    def forward(self, x: str) -> Any:
        HEARD.clear()
        one = self.a(x=x).y
        logger.info("said {}", one)
        log.info("said", one=one)
        return self.b(x=x + "".join(HEARD)).z


def overhear(message: Any) -> None:
    HEARD.append(str(message))


def hear(_: Any, __: str, event: Any) -> Any:
    HEARD.append(json.dumps(event))
    return event


@pytest.mark.parametrize(
    ("listen", "why"),
    [
        (
            lambda: logger.add(overhear, format="{message}"),
            "loguru's sink overhear, its filter or its format may have effects",
        ),
        (lambda: configure(hear), "structlog's hear may have effects"),
    ],
)
def test_what_is_heard_is_waited_for(listen: Callable[[], Any], why: str) -> None:
    listen()
    expected, written = seen(Heard, "sequential")
    found, again = seen(Heard, "overlapped")
    assert_same(expected, found)
    assert found.requests == expected.requests
    assert again == written
    assert HEARD
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        reasons = explain(Heard(), x="q").reasons
    line = Heard.forward.__code__.co_firstlineno + (3 if "loguru" in why else 4)
    assert reasons == [(f"{Path(__file__).name}:{line}", why)]


class Shown:
    """Printing one can be told."""

    def __repr__(self) -> str:
        HEARD.append("shown")
        return "shown"


class Shows(Base):
    def forward(self, x: str) -> Any:
        HEARD.clear()
        self.a(x=x)
        (logger.bind(it=Shown()).info if x else log.info)("said", it=Shown())
        return self.b(x=f"{x} {len(HEARD)}").z


class ShowsAField(Base):
    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        logger.info("said {0.real}", len(x))
        return one, self.b(x=x).z


class TellsMore(Base):
    def forward(self, x: str) -> Any:
        one = self.a(x=x).y
        log.info("said", exc_info=ValueError("x"))
        return one, self.b(x=x).z


@pytest.mark.parametrize("make", [Shows, ShowsAField, TellsMore])
def test_what_printing_runs_is_waited_for(make: Any) -> None:
    expected, written = seen(make, "sequential")
    found, again = seen(make, "overlapped")
    assert_same(expected, found)
    assert found.requests == expected.requests
    assert again == written
    assert found.seconds == 2


def test_a_release_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logger, "_options", ())
    assert not is_silent(logger.info)
