"""Values that are not plain data: the scout leaves them alone, or treats them as Python does."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils.callback import BaseCallback

from dspy_parallel import explain, pure
from dspy_parallel.overlap.session import PATIENCE
from tests.overlap import programs_of_objects, programs_of_values
from tests.overlap.observing import assert_same, observe
from tests.overlap.stateful import effects_of
from tests.support.observation import Describer
from tests.support.timed_lm import TimedLM, always

PROGRAMS = {**programs_of_values.program, **programs_of_objects.program}
each_program = pytest.mark.parametrize("name", PROGRAMS)


def seen(name: str, way: Any) -> Any:
    return observe(PROGRAMS[name].make, {"x": "word"}, TimedLM(), way, effects=effects_of)


_expected: dict[str, Any] = {}


def in_sequence(name: str) -> Any:
    if name not in _expected:
        _expected[name] = seen(name, "sequential")
        assert "exception" not in _expected[name].everything, _expected[name].everything["exception"]
    return _expected[name]


@each_program
def test_same_as_in_sequence(name: str) -> None:
    """Output, trace, usage, histories, callbacks, LM calls and effects, on the loop."""
    assert_same(in_sequence(name), seen(name, "overlapped"))


@pure
class Unhurried(TimedLM):
    """Takes no time, and more turns of the loop than it takes until the scout is told of the program's own call.

    Else a program in a thread may be over before the scout has come to what stops it.
    """

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        for _ in range(4 * PATIENCE):
            await asyncio.sleep(0)
        return await super().aforward(prompt, messages, **kwargs)


class LastOutput(BaseCallback):
    """What the module that ended last has returned: the program."""

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        self.output = outputs


@each_program
def test_same_by_default_and_says_why_it_stops(name: str) -> None:
    """With the engine that modules have by default. The reason is that of `explain()`."""
    expected, program = in_sequence(name), PROGRAMS[name].make()
    lm, last, trace = Unhurried(latency=always(0.0)), LastOutput(), []
    with dspy.context(lm=lm, trace=trace, callbacks=[last]), dspy.track_usage() as usage:
        report = explain(program, x="word")
    assert report.exception is None
    assert last.output.toDict() == expected.value.toDict()
    assert sorted(lm.requests) == expected.requests
    assert len(trace) == len(expected.everything["trace"])
    assert usage.get_total_tokens() == expected.everything["usage"]
    assert Describer()(effects_of(program)) == expected.everything["effects"]
    reason = PROGRAMS[name].stops
    if reason is not None:
        # Who waits where depends on who is first.
        found = " ".join(text for _, text in report.reasons if not text.startswith("it changes what others"))
        assert reason or found == ""
        # In a thread, the program may be past what the scout wants to read, before it comes to what stops it.
        assert reason in found or "was already past it" in found


class Note(pydantic.BaseModel):
    tags: list[str]


class Reader(dspy.Module):
    """Reads a list and a model, after a call that takes a while."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("x -> y")
        self.use_list = dspy.Predict("tags: list[str] -> y")
        self.use_note = dspy.Predict("note -> y")
        self.tags, self.note = ["a"], Note(tags=["a"])

    def forward(self, x: str) -> Any:
        first = self.first(x=x).y
        return dspy.Prediction(y=[first, self.use_list(tags=self.tags).y, self.use_note(note=self.note).y])


class Change(BaseCallback):
    """Changes both from outside, once."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.outputs: list[Any] = []

    def on_module_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
        if not self.outputs:
            self.reader.tags.append("z")
            self.reader.note.tags.append("z")
        self.outputs.append(outputs)


def test_objects_that_are_changed_from_outside() -> None:
    """After the scout has seen them: the calls that it has made are discarded and counted, the right ones are made."""

    def changed(run: Any) -> tuple[Any, TimedLM, Any]:
        reader, lm = Reader(), TimedLM(latency=always(0.01))
        change = Change(reader)
        with dspy.context(lm=lm, callbacks=[change]):
            report = run(reader, x="word")
        return change.outputs[-1], lm, report

    expected, in_turn, _ = changed(lambda reader, **inputs: reader(**inputs))
    found, early, report = changed(explain)
    assert found.toDict() == expected.toDict()
    assert report.discarded == 2
    assert set(in_turn.requests) < set(early.requests)
    assert len(early.requests) == 3 + 2
