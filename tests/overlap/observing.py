"""Runs a program in sequence or overlapped, and writes down everything that can be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import dspy
from dspy.clients import base_lm

from dspy_parallel import async_module
from dspy_parallel.placement import Engine
from tests.support.known_programs import known
from tests.support.observation import Describer, Recorder, differences, entry, logged, scrubbed
from tests.support.timed_lm import TimedLM
from tests.support.virtual_time import run_virtual

__all__ = ["Seen", "Way", "assert_same", "observe"]

Way = Literal["sequential", "overlapped", "offloading", "called", "threaded", "by default"]
"""In sequence; overlapped on a loop with a virtual clock, where what blocks is an error or goes to a thread; or
overlapped from sync code: on the loop that serves it, in a thread, or with the engine that modules have by default."""

_ENGINES: dict[Way, Engine] = {"threaded": "thread", "by default": "auto", "offloading": "auto"}


@dataclass(frozen=True)
class Seen:
    """What was seen.

    Attributes:
        everything: Output, exception, trace, callbacks, histories, usage, effects ... as data.
        requests: What the LM was asked, in any order.
        seconds: How long it took, on the virtual clock.
        sequentially: How long its LM calls would have taken one after the other.
        value: The output itself.
        excuses: The exceptions there were, even if the program caught them.
    """

    everything: dict[str, Any]
    requests: list[str]
    seconds: float
    sequentially: float
    value: Any
    excuses: list[Any]


def observe(
    make: Callable[[], Any],
    inputs: dict[str, Any],
    lm: TimedLM,
    way: Way,
    *,
    effects: Callable[[Any], Any] = lambda program: None,
    file: str = "",
    **context: Any,
) -> Seen:
    """Make a program and call it.

    Args:
        make: Gives a program.
        inputs: What it is called with.
        lm: Its LM.
        way: How it runs.
        effects: Gives the side effects of a program that has run.
        file: Where the program's code is: the lines in it are a part of an exception.
        **context: More settings of DSPy.
    """
    # What the program sets in its caller's context must not reach the next observation.
    return contextvars.copy_context().run(_observe, make, inputs, lm, way, effects, file, context)


def _observe(
    make: Any,
    inputs: dict[str, Any],
    lm: TimedLM,
    way: Way,
    effects: Any,
    file: str,
    context: dict[str, Any],
) -> Seen:
    describe = Describer()
    describe.introduce(lm, "lm")
    recorder = Recorder(describe)
    trace: list[Any] = []
    seen: dict[str, Any] = {}
    seconds, output = 0.0, None
    base_lm.GLOBAL_HISTORY.clear()
    program = make()
    if way != "sequential":
        cls = type(program)
        # A class of its own, so that the program's stays as it is.
        engine = _ENGINES.get(way, "loop")
        program.__class__ = async_module(type(cls.__name__, (cls,), {}), engine=engine, overlap=True)
    on_loop = known(program.__class__) if way == "offloading" else contextlib.nullcontext()
    describe.introduce(program, "program")
    settings = {"lm": lm, "callbacks": [recorder], "trace": trace, **context}
    with warnings.catch_warnings(record=True) as warned, logged() as lines, on_loop:
        warnings.simplefilter("always")
        with dspy.context(**settings), dspy.track_usage() as usage:
            try:
                if way not in ("overlapped", "offloading"):
                    output = program(**inputs)
                else:
                    output, seconds = run_virtual(program.acall, **inputs)
            except (Exception, asyncio.CancelledError) as exc:  # the latter would be a mistake of ours
                frames = traceback.extract_tb(exc.__traceback__)
                where = [(frame.name, frame.lineno) for frame in frames if file and frame.filename == file]
                seen["exception"] = type(exc).__qualname__, scrubbed(str(exc)), describe(exc.args), where
                while exc.__context__ is not None:
                    exc = exc.__context__
                    seen["exception"] += type(exc).__qualname__, scrubbed(str(exc))
    seen["output"] = describe(output)
    seen["effects"] = describe(effects(program))
    seen["trace"] = [(describe(module), describe(given), describe(got)) for module, given, got in trace]
    seen["usage"] = describe(usage.get_total_tokens())
    seen["callbacks"] = recorder.events
    # Whatever somebody else left open may be collected at any time.
    own = [each for each in warned if each.category is not ResourceWarning]
    seen["warnings"] = [(each.category.__name__, scrubbed(str(each.message))) for each in own]
    seen["log"] = lines
    seen["lm history"] = [entry(describe, found) for found in lm.history]
    seen["global history"] = [entry(describe, found) for found in base_lm.GLOBAL_HISTORY]
    seen["module histories"] = {
        path: [entry(describe, found) for found in module.history] for path, module in program.named_sub_modules()
    }
    failed = [event for event in recorder.events if event[1:3] == ("module", "end") and event[-1]]
    excuses = [*failed, *(text for text in _texts(seen["effects"]) if text.startswith("caught "))]
    excuses += [seen["exception"]] if "exception" in seen else []
    return Seen(seen, sorted(lm.requests), seconds, lm.sequentially, output, excuses)


def _texts(value: Any) -> Iterator[str]:
    """All strings in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def assert_same(expected: Seen, found: Seen, *, extra_calls: bool = False) -> None:
    """Assert that the two differ in nothing but time.

    After an exception there may be LM calls that were made ahead of it, and that nothing else shows; else only if
    `extra_calls` allows for them. If it was caught, those that are made nevertheless are not made twice.
    """
    different = differences(expected.everything, found.everything)
    assert not different, f"Overlapped differs from a plain call ('sync').\n{different}"
    more, fewer = Counter(found.requests), Counter(expected.requests)
    assert not fewer - more, f"LM calls that were not made: {fewer - more}"
    if extra_calls or "exception" in expected.everything:
        return
    # One that fails, and would be made again if it did not, is one of those that come after an exception.
    twice = [request for request in more - fewer if not request.endswith(" fails")]
    too_many = [request for request in twice if request in fewer or not expected.excuses]
    assert not too_many, f"LM calls too many: {too_many}"
