"""Overlap with `dspy.LM` and its response cache, on each of its engines."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer

ENGINES = ["lm15", "litellm"] if hasattr(dspy, "lm15") else ["litellm"]


class Repeats(dspy.Module):
    """Three calls, two of them equal."""

    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")
        self.q = dspy.ChainOfThought("x -> y")

    def forward(self, x: str) -> Any:
        found = [self.p(x=x), self.q(x=x), self.p(x=x)]
        return dspy.Prediction(y=[each.y for each in found], z=self.p(x=found[0].y).y)


class Watched(Repeats):
    """The first of the equal calls is not made early, as its predictor has a callback of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = dspy.Predict("x -> y", callbacks=[BaseCallback()])

    def forward(self, x: str) -> Any:
        found = [self.watched(x=x), self.q(x=x), self.p(x=x)]
        return dspy.Prediction(y=[each.y for each in found], z=self.p(x=found[0].y).y)


def seen(cls: Any, server: LMServer, engine: str, cache: bool, times: int) -> Any:
    options: dict[str, Any] = {"engine": engine} if hasattr(dspy, "lm15") else {}
    lm = dspy.LM("openai/any", cache=cache, **options, **server.lm_kwargs())
    before = server.stats().requests
    outputs = []
    with dspy.context(lm=lm, trace=[]), dspy.track_usage() as usage:
        for _ in range(times):
            outputs.append(cls()(x="word").toDict())
        steps = [(inputs, output.toDict()) for _, inputs, output in dspy.settings.trace]
    history = [(entry["messages"], entry["outputs"], entry["usage"], entry["cost"]) for entry in lm.history]
    return outputs, steps, usage.get_total_tokens(), history, server.stats().requests - before


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cache", [False, True], ids=["uncached", "cached"])
@pytest.mark.parametrize("cls", [Repeats, Watched])
def test_same_requests_usage_and_history(lm_server: LMServer, engine: str, cache: bool, cls: Any) -> None:
    """Equal calls are two requests without the cache; with it, one and then a hit, also in a second run."""
    expected = seen(cls, lm_server, engine, cache, 2)
    if cache:
        dspy.cache.reset_memory_cache()
        dspy.cache.disk_cache.clear()
    ahead = async_module(type("Ahead", (cls,), {}), overlap=True)
    assert seen(ahead, lm_server, engine, cache, 2) == expected
    assert expected[-1] == (3 if cache else 8)


def test_all_at_once(lm_server: LMServer) -> None:
    """From sync code: nobody is answered before the three first calls are in flight."""
    lm_server.configure(gate=3, faults=[], latency=0.0)
    lm = dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())

    class Independent(Repeats):
        def forward(self, x: str) -> Any:
            return [self.p(x=x), self.q(x=x), self.p(x=x)]

    with dspy.context(lm=lm):
        async_module(Independent, overlap=True)()(x="word")
    assert lm_server.stats().peak_in_flight == 3
