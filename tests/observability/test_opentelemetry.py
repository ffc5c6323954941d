"""OpenTelemetry's context follows a program: spans have the parents that they have in a plain call."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import dspy
import pytest
from dspy.utils.callback import BaseCallback

from tests.observability.programs import MANY, Whole, alone, decorated, together

sdk = pytest.importorskip("opentelemetry.sdk.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")

from opentelemetry import context, trace  # noqa: E402


class Spans(BaseCallback):
    """A span for each module, LM and tool, current while it runs: what instrumentations of DSPy do."""

    def __init__(self, tracer: Any) -> None:
        self.tracer = tracer
        self.open: dict[str, Any] = {}

    def start(self, call_id: str, instance: Any, inputs: Any) -> None:
        span = self.tracer.start_span(type(instance).__qualname__)
        self.open[call_id] = span, context.attach(trace.set_span_in_context(span))

    def end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        span, token = self.open.pop(call_id)
        context.detach(token)
        span.end()

    on_module_start = on_lm_start = on_tool_start = start
    on_module_end = on_lm_end = on_tool_end = end


def spans_of(run: Any, program_of: Any) -> Counter[tuple[str, ...]]:
    """How often there is each path of span names from the root down."""
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    callback = Spans(tracer)

    async def one(number: int, call: Any) -> None:
        with tracer.start_as_current_span(f"request {number}"), dspy.context(callbacks=[callback]):
            await call(number)

    asyncio.run(run(program_of(tracer.start_as_current_span), one))
    assert not callback.open
    spans = {span.context.span_id: span for span in exporter.get_finished_spans()}

    def path(span: Any) -> tuple[str, ...]:
        above = path(spans[span.parent.span_id]) if span.parent else ()
        return (*above, "LM" if span.name in ("TwinLM", "Meets") else span.name)

    for span in spans.values():
        assert span.parent is None or spans[span.parent.span_id].context.trace_id == span.context.trace_id
    return Counter(path(span) for span in spans.values())


@pytest.mark.parametrize("engine", ["thread", "auto"])
def test_spans_have_the_right_parents(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Those of modules, LM calls and tools, and the user's own, in forward and in a tool's worker thread."""
    with caplog.at_level(logging.WARNING, "opentelemetry"):
        expected = spans_of(alone, Whole)
        found = spans_of(together, lambda around: decorated(around, engine))
    assert found == expected
    assert len([path for path in found if len(path) == 1]) == MANY
    assert max(map(len, found)) == 7, "request, program, own span, tool, span in the tool, predictor, LM"
    assert "detach" not in caplog.text, "a span ended in another context than it began in"
