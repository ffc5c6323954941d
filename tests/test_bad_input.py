"""Wrong arguments to the public functions: an error that says what was given and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any

import dspy
import pytest

import dspy_parallel as d
from dspy_parallel import langgraph as lg


def plain(x: Any) -> Any:
    return x


async def coroutine() -> None: ...


def lm() -> dspy.LM:
    return dspy.LM("openai/none", api_key="none")


CASES: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("add_seam", lambda: d.add_seam("text"), d.SeamError, "'text' is not of the form"),
    ("add_seam", lambda: d.add_seam(42), d.SeamError, "42 is not of the form"),
    ("add_seam", lambda: d.add_seam("json:dumps", 3), d.SeamError, "an object of type int, which cannot be called"),
    ("add_seam", lambda: d.add_seam("json:nothing"), d.SeamError, "does not exist"),
    ("loop_safe", lambda: d.loop_safe(42), d.SeamError, "an object of type int, which cannot be marked"),
    ("loop_safe", lambda: d.loop_safe(dspy.Predict("a -> b").forward), d.SeamError, "cannot be marked"),
    ("async_module", lambda: d.async_module(42), d.DecorationError, "neither a subclass nor an instance"),
    ("async_module", lambda: d.async_module(plain), d.DecorationError, "Use run"),
    ("async_module", lambda: d.async_module(engine="x"), d.UnknownEngineError, "Choose one of"),
    ("install", lambda: d.install(engine="x"), d.UnknownEngineError, "Choose one of"),
    ("await_", lambda: d.await_(42), d.BridgeError, "outside a bridged program"),
    ("run_sync", lambda: d.run_sync(plain, 1, engine="x"), d.UnknownEngineError, "Choose one of"),
    *[
        (name, partial(getattr(d, name), 42), d.DecorationError, f"{name}.. was given an object of type int, which")
        for name in ("run_sync", "offload", "overlapped", "pure", "ordered")
    ],
    ("run", lambda: asyncio.run(d.run(coroutine())), d.DecorationError, "Give it the function instead"),  # type: ignore[arg-type]
    ("run_sync", lambda: d.run_sync(coroutine()), d.DecorationError, "Give it the function instead"),  # type: ignore[arg-type]
    ("batch", lambda: d.batch([{"x": 1}], plain), d.BatchInputError, "swap the two"),
    ("batch", lambda: d.batch(42, [1]), d.BatchInputError, "cannot be called"),
    ("batch", lambda: d.batch(plain, 42), d.BatchInputError, "Give a list"),
    ("batch", lambda: d.batch(plain, "abc"), d.BatchInputError, "Give a list"),
    ("batch", lambda: d.batch(plain, {"x": 1}), d.BatchInputError, "Give a list"),
    ("batch", lambda: d.batch(plain, [{"x": 1}], max_in_flight=0), ValueError, "max_in_flight is 0"),
    ("batch", lambda: d.batch(plain, [{"x": 1}], max_in_flight="3"), TypeError, "whole number"),
    ("batch", lambda: d.batch(plain, dspy.Example(x=1)), d.BatchInputError, "of type Example"),
    ("iter_batch", lambda: next(d.iter_batch([{"x": 1}], plain)), d.BatchInputError, "swap the two"),
    ("parallel_map", lambda: d.parallel_map([1], plain), d.BatchInputError, "swap the two"),
    ("parallel_map", lambda: d.parallel_map(42, [1]), d.BatchInputError, "cannot be called"),
    ("gather", lambda: d.gather(42), d.BatchInputError, "cannot be called"),
    ("gather", lambda: d.gather([plain, plain]), d.BatchInputError, "an object of type list"),
    ("limit", lambda: d.limit(42, max_in_flight=1), d.LimitError, "not an LM"),
    ("limit", lambda: d.limit(lm(), max_in_flight=0), d.LimitError, "whole number from 1"),
    ("limit", lambda: d.limit(lm(), requests_per_minute="x"), d.LimitError, "whole number from 1"),
    ("explain", lambda: d.explain(42), d.TargetError, "an object of type int"),
    ("explain", lambda: d.explain(dspy.Predict), d.TargetError, "the class Predict"),
    ("diagnose", lambda: d.diagnose(42), d.TargetError, "no program"),
    ("diagnose", lambda: d.diagnose("text"), d.TargetError, "no program"),
    ("record", lambda: save("timeline.pdf"), d.TimelineError, "no kind of file"),
    ("record", lambda: save(3), TypeError, "int"),
    ("parallelize_graph", lambda: lg.parallelize_graph(42), d.DecorationError, "neither a StateGraph nor"),
    ("async_node", lambda: lg.async_node(42), d.DecorationError, "not a plain function"),
]

ELSEWHERE = {
    "abatch": "takes what `batch` takes",
    "limit_all": "takes what `limit` takes, but for the LM",
    "in_bridge": "takes nothing",
    "own_history": "takes nothing",
    "uninstall": "takes nothing",
    "placement_of": "takes anything",
    "status": "takes nothing",
}


def save(path: Any) -> None:
    with d.record() as timeline:
        pass
    timeline.save(path)


@pytest.mark.parametrize(
    ("call", "error", "message"), [case[1:] for case in CASES], ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)]
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    """At once, before anything has run."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


def test_every_public_function_is_tested() -> None:
    """Here, or where it says."""
    functions = {name for name in d.__all__ if isinstance(getattr(d, name), FunctionType)}
    assert functions - {case[0] for case in CASES} == ELSEWHERE.keys()
