"""What is sent to workers, and what is refused before anything starts. No cluster."""

from __future__ import annotations

import dataclasses
import enum
import sys
import threading
from typing import Any

import cloudpickle
import dspy
import pydantic
import pytest

from dspy_parallel import LimitError, MissingExtraError, ShippingError, limit, limit_all
from dspy_parallel.limits.assignment import default_limit, limit_of
from dspy_parallel.ray import map_dataset
from dspy_parallel.ray.columns import columns_of
from dspy_parallel.ray.shipment import Shipment
from tests.ray.programs import Ask, Echo

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def there(program: Any, number: int = 0, workers: int = 1) -> Any:
    """The program as a worker has it, and what its settings are there."""
    found, context = Shipment.unpacked(Shipment.of(program).packed(), number, workers)
    return found, context.run(dspy.settings.copy)


def test_a_program_goes_by_its_state() -> None:
    program = Ask("> ")
    program.ask.demos = [dspy.Example(question="q", answer="a")]
    program.ask.signature = program.ask.signature.with_instructions("Answer in verse.")
    program.ask.lm = Echo()
    program.ask.lm.history = ["long"]
    found, _ = there(program)
    assert type(found) is Ask
    assert found.prefix == "> "
    assert found.ask.signature.instructions == "Answer in verse."
    assert [dict(demo) for demo in found.ask.demos] == [{"question": "q", "answer": "a"}]
    assert isinstance(found.ask.lm, Echo)
    assert found.ask.lm.history == []
    assert program.ask.lm.history == ["long"]


def test_an_lm_keeps_its_key_and_address() -> None:
    """Of which a saved state has neither."""
    program = Ask()
    program.set_lm(dspy.LM("openai/any", api_base="http://localhost:1", api_key="secret"))
    assert there(program)[0].ask.lm.kwargs["api_key"] == "secret"


def test_settings_of_the_caller_without_those_of_its_run() -> None:
    lm = Echo()
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), max_errors=3, trace=[1], track_usage=True):
        content = Shipment.of(Ask()).packed()
    settings = Shipment.unpacked(content, 0, 1)[1].run(dspy.settings.copy)
    assert isinstance(settings.lm, Echo)
    assert isinstance(settings.adapter, dspy.JSONAdapter)
    assert (settings.max_errors, settings.track_usage) == (3, True)
    assert settings.trace != [1]


def test_limits_are_shared_out() -> None:
    first, second, alone = Echo(), Echo(), Echo()
    shared, own = limit(first, second, max_in_flight=7), limit(alone, max_in_flight=2)
    program = dspy.Module()
    program.one, program.two = Ask(), Ask()
    program.one.set_lm(first)
    program.two.set_lm(second)
    with dspy.context(lm=alone):
        parts = []
        for number in range(2):
            found, settings = there(program, number, 2)
            assert limit_of(found.one.ask.lm) is limit_of(found.two.ask.lm)
            parts.append((limit_of(found.one.ask.lm).settings.max_in_flight, limit_of(settings.lm).settings))
        assert [part[0] for part in parts] == [4, 3]
        assert [part[1].max_in_flight for part in parts] == [1, 1]
        with pytest.raises(LimitError, match="max_in_flight=2 cannot be divided over 3 workers"):
            Shipment.of(program).check(3)
    assert limit_of(first) is shared  # those here stay as they were
    assert shared.settings.max_in_flight == 7
    assert limit_of(alone) is own


def test_the_limit_of_all_is_shared_out() -> None:
    limit_all(max_in_flight=9)
    content = Shipment.of(Ask()).packed()
    try:
        Shipment.unpacked(content, 1, 4)
        assert default_limit() is not None
        assert default_limit().max_in_flight == 2  # type: ignore[union-attr]
    finally:
        limit_all()


def test_what_cannot_be_sent_is_named() -> None:
    program = Ask()
    program.client = threading.Lock()
    with pytest.raises(ShippingError, match="The attribute 'client' of Ask cannot be sent"):
        Shipment.of(program).packed()
    with (
        dspy.context(adapter=type("Held", (), {"lock": threading.Lock(), "__reduce__": lambda self: self.lock})()),
        pytest.raises(ShippingError, match="The DSPy setting 'adapter'"),
    ):
        Shipment.of(Ask()).packed()


def test_a_function_goes_as_it_is() -> None:
    found, _ = there(len)
    assert found is len
    assert cloudpickle.loads(cloudpickle.dumps(there(lambda x: x + 1)[0]))(1) == 2


class Colour(enum.Enum):
    RED = "red"


class Part(pydantic.BaseModel):
    name: str
    colour: Colour = Colour.RED


@dataclasses.dataclass
class Box:
    parts: list[Part]


def test_results_as_columns() -> None:
    assert columns_of(dspy.Prediction(answer="a", box=Box([Part(name="lid")]))) == {
        "answer": "a",
        "box": {"parts": [{"name": "lid", "colour": "red"}]},
    }
    assert columns_of(Part(name="lid")) == {"name": "lid", "colour": "red"}
    assert columns_of({"a": (1, 2)}) == {"a": [1, 2]}
    assert columns_of(5) == {"result": 5}


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"dspy-parallel\[ray\]"):
        map_dataset(None, Ask())  # type: ignore[arg-type]
