"""OpenInference's spans (Phoenix, Langfuse): one for each call of the program's, whoever makes it early."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module, explain, install, uninstall
from dspy_parallel.testing import LMServer


class Three(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = dspy.Predict("x -> y"), dspy.ChainOfThought("x -> y")
        self.join = dspy.Predict("one, two -> z")

    def forward(self, x: str) -> dspy.Prediction:
        one = self.a(x=x).y
        two = self.b(x=x).y
        return self.join(one=one, two=two)


@pytest.fixture(params=["before the first program", "after it"])
def spans(request: pytest.FixtureRequest) -> Iterator[Callable[[], Counter[str]]]:
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="tox -e observability")
    instrumentation = pytest.importorskip("openinference.instrumentation.dspy", reason="tox -e observability")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    uninstall()
    if request.param == "after it":
        install()
    exporter, provider = InMemorySpanExporter(), trace.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = instrumentation.DSPyInstrumentor()
    instrumentor.instrument(tracer_provider=provider)

    def taken() -> Counter[str]:
        names = Counter(span.name.replace("acall", "__call__") for span in exporter.get_finished_spans())
        exporter.clear()
        return names

    yield taken
    if request.param != "after it":
        uninstall()  # in the reverse order in which they came
    instrumentor.uninstrument()


def test_spans_are_not_doubled(spans: Callable[[], Counter[str]]) -> None:
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        Three()(x="q")
        expected = spans()
        async_module(type("Three", (Three,), {}), overlap=True)()(x="q")
        assert spans() == expected
        asyncio.run(async_module(type("Three", (Three,), {}), overlap=True)().acall(x="q"))
        assert Counter({name.replace("aforward", "forward"): n for name, n in spans().items()}) == expected
        assert sum(expected.values()) > 6
        assert server.stats().requests == 9
        # And the calls overlap all the same.
        assert explain(Three(), x="q").early >= 1


def test_other_wrappers_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a wrapper that cannot be told not to see it, no call is early."""
    seen: list[Any] = []
    original = dspy.Adapter.__call__

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(dspy.Adapter, "__call__", counted)
    with LMServer() as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        report = explain(Three(), x="q")
    uninstall()  # what was patched over the wrapper goes before it
    assert (report.exception, report.early, len(seen)) == (None, 0, 3)
    assert "counted, which would see the early call, too" in str(report)


def tool(text: str) -> str:
    """Returns a word."""
    return "word"


class Agents(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.agent = dspy.Predict("x -> y"), dspy.ReAct("x -> y", [tool], max_iters=1)

    def forward(self, x: str) -> dspy.Prediction:
        one = self.a(x=x).y
        return dspy.Prediction(one=one, two=self.agent(x=x).y)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        *((dspy.ChatAdapter, "format"), (dspy.ChatAdapter, "parse"), (dspy.ReAct, "forward")),
        *((dspy.ChainOfThought, "forward"), (dspy.Tool, "__call__")),
    ],
)
def test_what_is_wrapped_in_an_agent_or_an_adapter_runs_once(
    cls: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = vars(cls)[name]

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(name)
        return original(*args, **kwargs)

    monkeypatch.setattr(cls, name, counted)
    counts = []
    with LMServer(latency=0.02) as server, dspy.context(lm=dspy.LM("openai/any", cache=False, **server.lm_kwargs())):
        for program in (Agents(), async_module(type("Agents", (Agents,), {"forward": Agents.forward}), overlap=True)()):
            seen.clear()
            program(x="q")
            counts.append(len(seen))
    uninstall()  # what was patched over the wrapper goes before it
    assert counts[0] == counts[1] > 0
