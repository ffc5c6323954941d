"""Runs a program one way and writes down everything that can be seen of it, as data that can be compared.

Objects are described by what they are and where they belong, never by identity, so that two runs on fresh objects
are equal if, and only if, the program behaved the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import enum
import functools
import logging
import re
import traceback
import types
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import dspy
import pydantic
from dspy.clients import base_lm
from dspy.utils.callback import ACTIVE_CALL_ID, BaseCallback

from dspy_parallel import BlockingWarning, async_module, install, run, uninstall
from tests.support.known_programs import known
from tests.support.loops import run_on

HERE = Path(__file__).parent
WAYS = ("sync", "loop", "thread", "auto", "known")
"""Sync, pinned to an engine, or with engine="auto" as it is and as if all were known to belong on the loop."""

_NOT_STATE = ("history", "callbacks", "stage")  # seen elsewhere; the last is a random number
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")
_CALL_ID = re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b")


def scrubbed(text: str) -> str:
    """Text without what differs from run to run: addresses and random identifiers.

    Nor with the provider, which LiteLLM names in the errors of its async functions alone.
    """
    return _CALL_ID.sub("<id>", _ADDRESS.sub("<address>", text)).replace("openai/any-model", "any-model")


class Describer:
    """Gives every module, LM and tool of a run one name, and turns values into plain data."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []  # so that no identity is used twice

    def introduce(self, root: Any, name: str) -> None:
        """Name a program's modules by where they stand in it."""
        self._name(root, name)
        if isinstance(root, dspy.Module):
            for path, module in root.named_sub_modules():
                self._name(module, f"{name}.{path}")

    def _name(self, thing: Any, name: str) -> str:
        self._kept.append(thing)
        return self._names.setdefault(id(thing), name)

    def name_of(self, thing: Any) -> str:
        """Its name; things met on the way, such as copies, are named in the order in which they are met."""
        known = self._names.get(id(thing))
        return known or self._name(thing, f"{type(thing).__qualname__} #{len(self._names)}")

    def __call__(self, value: Any, depth: int = 0) -> Any:
        describe = functools.partial(self.__call__, depth=depth + 1)
        if depth > 25:
            return "..."
        if value is None or isinstance(value, (bool, int, float, bytes)):
            return value
        if isinstance(value, str) and not isinstance(value, enum.Enum):
            return scrubbed(value)
        if isinstance(value, dspy.Example):
            items = {name: describe(item) for name, item in value.items(include_dspy=True)}
            usage = describe(value.get_lm_usage()) if isinstance(value, dspy.Prediction) else None
            completions = getattr(value, "_completions", None)
            return type(value).__name__, items, usage, completions and describe(dict(completions.items()))
        if isinstance(value, type) and issubclass(value, dspy.Signature):
            signature: Any = value
            return signature.signature, signature.instructions
        if isinstance(value, BaseException):
            return self.exception(value)
        if isinstance(value, (dspy.Module, dspy.BaseLM, dspy.Tool, dspy.Adapter)):
            return self.name_of(value)
        if isinstance(value, pydantic.BaseModel):
            fields = {
                name: getattr(value, name, None) for name in type(value).model_fields if name not in ("id", "created")
            }
            return type(value).__name__, describe({**fields, **(value.model_extra or {})})
        if isinstance(value, dict):
            return {
                str(describe(name)): describe(item) for name, item in value.items() if name not in ("id", "created")
            }
        if isinstance(value, (list, tuple)):
            return [type(value).__name__, *map(describe, value)]
        if isinstance(value, (set, frozenset)):
            return type(value).__name__, sorted(map(repr, map(describe, value)))
        if isinstance(value, (types.FunctionType, types.MethodType, type)):
            return value.__qualname__
        if dataclasses.is_dataclass(value):
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
            return type(value).__name__, describe({k: v for k, v in fields.items() if k not in ("id", "created")})
        return scrubbed(f"{type(value).__qualname__}: {value!r}")

    def exception(self, exc: BaseException | None, seen: frozenset[int] = frozenset()) -> Any:
        """Type, text, arguments, where in user code it was raised, and the exceptions it came from."""
        if exc is None or id(exc) in seen:
            return None
        seen |= {id(exc)}
        frames = traceback.extract_tb(exc.__traceback__)
        where = [(frame.name, frame.lineno) for frame in frames if is_user_frame(frame.filename)]
        return (
            type(exc).__qualname__,
            scrubbed(str(exc)),
            self(exc.args),
            where,
            ("cause", self.exception(exc.__cause__, seen)),
            ("context", exc.__suppress_context__, self.exception(exc.__context__, seen)),
        )


def is_user_frame(filename: str) -> bool:
    """Whether a frame is of the programs in these tests, not of DSPy, of the bridge, of an LM or of this file."""
    return filename.startswith(f"{HERE.parent}/") and not filename.startswith(f"{HERE}/")


class Recorder(BaseCallback):
    """A callback that notes each event with its call's parent, in the order in which they come."""

    def __init__(self, describe: Describer, label: str = "") -> None:
        self.describe = describe
        self.label = label
        self.events: list[Any] = []
        self._numbers: dict[str | None, int | None] = {None: None}

    def start(self, kind: str, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self._numbers[call_id] = len(self._numbers)
        parent = self._numbers.get(ACTIVE_CALL_ID.get(), "unknown")
        what = (self._numbers[call_id], parent, self.describe(instance), self.describe(inputs))
        self.events.append((self.label, kind, "start", *what))

    def end(self, kind: str, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        what = (self.describe(outputs), exception and (type(exception).__qualname__, scrubbed(str(exception))))
        self.events.append((self.label, kind, "end", self._numbers.get(call_id, "unknown"), *what))


def _handlers(kind: str) -> tuple[Callable[..., None], Callable[..., None]]:
    def on_start(self: Recorder, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        self.start(kind, call_id, instance, inputs)

    def on_end(self: Recorder, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        self.end(kind, call_id, outputs, exception)

    return on_start, on_end


for _kind in {name[3:-6] for name in dir(BaseCallback) if name.startswith("on_") and name.endswith("_start")}:
    for _name, _handler in zip(("start", "end"), _handlers(_kind), strict=True):
        setattr(Recorder, f"on_{_kind}_{_name}", _handler)


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        # Tracebacks inside a message have frames of whatever runs the program.
        self.lines.append((record.name, record.levelname, scrubbed(record.getMessage()).partition("Traceback")[0]))


@contextlib.contextmanager
def logged() -> Generator[list[Any]]:
    """What DSPy logs, from WARNING on. (What this package logs is about time, and differs on a busy machine.)"""
    handler = _Log()
    logger = logging.getLogger("dspy")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.WARNING)
    try:
        yield handler.lines
    finally:
        logger.handlers, logger.propagate = before[:2]
        logger.setLevel(before[2])


class World:
    """What a program under observation may touch besides its inputs: a list of its side effects, and LMs."""

    def __init__(self, lms: dict[str, Any] | None = None) -> None:
        self.effects: list[Any] = []
        self.describe = Describer()
        self.lms = lms or {}
        for label, lm in self.lms.items():
            self.describe.introduce(lm, f"lm {label}")

    def note(self, *what: Any) -> None:
        """A side effect of the program."""
        self.effects.append(self.describe(list(what)))


class Halt(BaseException):
    """What a program raises for `except Exception` to let it pass."""


def entry(describe: Describer, found: dict[str, Any]) -> Any:
    """A history entry without the time and identifier of the call."""
    return describe({name: value for name, value in found.items() if name not in ("timestamp", "uuid")})


def observe(
    make: Callable[[World], tuple[Any, tuple[Any, ...], dict[str, Any]]],
    way: str,
    make_lms: Callable[[], dict[str, Any]],
    *,
    by: str = "decorator",
    loop_kind: str = "asyncio",
    probe: Callable[[], Any] | None = None,
    **context: Any,
) -> dict[str, Any]:
    """Make a program and call it; return all that was seen.

    Args:
        make: Builds the program, and the arguments to call it with.
        way: One of `WAYS`.
        make_lms: Builds the LMs; the one called `"main"` is the default.
        by: What makes it awaitable: `"decorator"`, `"install"`, or `"run"`, which calls the program inside `run()`, so
            that an `aforward()` of its own is not involved.
        loop_kind: The kind of event loop, see `tests.support.loops`.
        probe: Called by the caller after the program, in its own context; what it returns belongs to the observation.
        **context: More settings; a function is called with the world.
    """
    inputs = (make, way, make_lms, by, loop_kind, probe or (lambda: None), context)
    # What the program sets in its caller's context must not reach the next observation.
    return contextvars.copy_context().run(_observe, *inputs)


def _observe(
    make: Any, way: str, make_lms: Any, by: str, loop_kind: str, probe: Callable[[], Any], context: dict[str, Any]
) -> dict[str, Any]:
    base_lm.GLOBAL_HISTORY.clear()
    with warnings.catch_warnings(record=True) as warned, logged() as lines:
        warnings.simplefilter("always")
        with _own(make, make_lms, context) as (program, args, kwargs, note):
            call = _plain(program, probe) if way == "sync" else _bridged(program, probe, way, by, loop_kind)
            with call as run_program:
                seen = note(*run_program(*args, **kwargs))
    seen["warnings"] = [
        (warning.category.__name__, scrubbed(str(warning.message)))
        for warning in warned
        if not issubclass(warning.category, BlockingWarning)
    ]
    seen["log"] = lines
    return seen


PROCESS_WIDE = ("warnings", "log", "global history")
"""What is seen of all programs that run at the same time, taken together."""


def observe_together(makes: list[Any], ways: list[str], make_lms: list[Any], **context: Any) -> list[dict[str, Any]]:
    """Run programs at the same time on one event loop; return what was seen of each, but for what is process-wide.

    Args:
        makes: As `make` of `observe()`, for each program.
        ways: As `way`.
        make_lms: As `make_lms`.
        **context: As there.
    """
    probe = context.pop("probe")

    async def one(make: Any, way: str, make_lms: Any) -> dict[str, Any]:
        with _own(make, make_lms, context) as (program, args, kwargs, note):
            async_module(program, engine=_engine(way))
            with known(*([type(program)] if way == "known" else [])):
                seen = note(*await _outcome(program.acall, probe, args, kwargs))
            return {name: value for name, value in seen.items() if name not in PROCESS_WIDE}

    async def main() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(one, makes, ways, make_lms))

    with warnings.catch_warnings(), logged():
        warnings.simplefilter("ignore")
        return run_on("asyncio", main)


Note = Callable[[Any, "BaseException | None", Any], dict[str, Any]]


@contextlib.contextmanager
def _own(make: Any, make_lms: Any, context: dict[str, Any]) -> Generator[tuple[Any, Any, Any, Note]]:
    """A program in a world of its own, its inputs, and what to call with its outcome for what was seen of it."""
    world = World(make_lms())
    describe = world.describe
    recorder = Recorder(describe)
    trace: list[Any] = []
    options = {
        name: value(world) if isinstance(value, types.FunctionType) else value for name, value in context.items()
    }

    def note(output: Any, exception: BaseException | None, probed: Any) -> dict[str, Any]:
        seen = {"output": describe(output), "exception": describe.exception(exception), "probe": probed}
        seen["effects"] = world.effects
        seen["trace"] = [(describe(module), describe(inputs), describe(outputs)) for module, inputs, outputs in trace]
        seen["callbacks"] = recorder.events
        seen["lm histories"] = {
            label: [entry(describe, found) for found in getattr(lm, "history", ())] for label, lm in world.lms.items()
        }
        seen["global history"] = [entry(describe, found) for found in base_lm.GLOBAL_HISTORY]
        if isinstance(program, dspy.Module):
            seen["module histories"] = {
                path: [entry(describe, found) for found in getattr(module, "history", ())]
                for path, module in program.named_sub_modules()
            }
            seen["state"] = describe({k: v for k, v in vars(program).items() if k not in _NOT_STATE})
        return seen

    with dspy.context(**{"lm": world.lms.get("main"), "callbacks": [recorder], "trace": trace, **options}):
        program, args, kwargs = make(world)
        describe.introduce(program, "program")
        yield program, args, kwargs, note


Called = Callable[..., tuple[Any, BaseException | None, Any]]


@contextlib.contextmanager
def _plain(program: Any, probe: Callable[[], Any]) -> Generator[Called]:
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            output = program(*args, **kwargs)
        except (Exception, Halt) as exc:
            return None, exc, probe()
        return output, None, probe()

    yield call


def _engine(way: str) -> Any:
    return way if way in ("loop", "thread") else "auto"


async def _outcome(start: Any, probe: Callable[[], Any], args: Any, kwargs: Any) -> Any:
    try:
        output = await start(*args, **kwargs)
    except (Exception, Halt) as exc:
        return None, exc, probe()
    return output, None, probe()


@contextlib.contextmanager
def _bridged(program: Any, probe: Callable[[], Any], way: str, by: str, loop_kind: str) -> Generator[Called]:
    """Like `_plain`, but the program runs on an event loop, the given way."""
    engine = _engine(way)
    if by == "decorator":
        async_module(program, engine=engine)
    elif by == "install":
        install(engine=engine)
    start = functools.partial(run, program.__call__, engine=engine) if by == "run" else program.acall

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await _outcome(start, probe, args, kwargs)

    try:
        with known(*([type(program)] if way == "known" else [])):
            yield functools.partial(run_on, loop_kind, call)
    finally:
        if by == "install":
            uninstall()


def differences(one: dict[str, Any], other: dict[str, Any]) -> str:
    """What differs between two observations, for people; empty if nothing does."""
    found = []
    for name in {**one, **other}:
        left, right = one.get(name), other.get(name)
        if left == right:
            continue
        if isinstance(left, list) and isinstance(right, list):
            first = next((n for n, pair in enumerate(zip(left, right, strict=False)) if pair[0] != pair[1]), None)
            first = min(len(left), len(right)) if first is None else first
            left, right = left[first : first + 1], right[first : first + 1]
            name = f"{name}[{first}]"
        texts = repr(left), repr(right)
        same = next((n for n, pair in enumerate(zip(*texts, strict=False)) if pair[0] != pair[1]), 0)
        shown = ["..." * (same > 200) + text[max(0, same - 200) :][:600] for text in texts]
        found.append(f"{name}:\n    sync:    {shown[0]}\n    bridged: {shown[1]}")
    return "\n".join(found)


def assert_same(make: Any, make_lms: Any, ways: tuple[str, ...] = WAYS[1:], **options: Any) -> dict[str, Any]:
    """Assert that a program does the same in all these ways as when it is called; return what was seen."""
    expected = observe(make, "sync", make_lms, **options)
    for way in ways:
        found = observe(make, way, make_lms, **options)
        different = differences(expected, found)
        assert not different, f"{way} differs from a plain call.\n{different}"
    return expected
