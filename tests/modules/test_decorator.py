"""`@async_module` on classes and instances, and what it makes of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils import DummyLM

from dspy_parallel import async_module, in_bridge
from tests.modules.plain import Plain, Where, fresh, result, where
from tests.support.observation import logged
from tests.support.stub_lms import TwinLM

# Forms of the decorator


def test_called_without_arguments():
    assert result(async_module()(fresh())().acall())[0]


def test_on_an_instance():
    """Every class in its module tree is covered, and the instance comes back."""
    outer, inner = fresh(Plain), fresh(Where)
    program = outer()
    program.parts = [inner(), {"deep": inner()}]
    assert async_module(program, engine="loop") is program
    assert result(program.parts[0].acall()) == (True, "MainThread")
    with dspy.context(lm=TwinLM()):
        assert result(program.acall("q")).answer == program("q").answer


def test_on_an_instance_leaves_decorated_parts_as_they_are():
    inner = async_module(engine="thread")(fresh())
    program = fresh(Plain)()
    program.part = inner()
    async_module(program, engine="loop")
    assert result(program.part.acall())[1] != "MainThread"


def test_on_an_instance_leaves_dspys_own_modules_as_they_are():
    before = dspy.Predict.aforward, dspy.ChainOfThought.aforward
    program = fresh(Plain)()
    program.think = dspy.ChainOfThought("a -> b")
    async_module(program)
    assert (dspy.Predict.aforward, dspy.ChainOfThought.aforward) == before


# What a decorated class looks like
def test_signature_name_and_documentation():
    cls = async_module(fresh(Plain))
    assert inspect.iscoroutinefunction(cls.aforward)
    assert inspect.signature(cls.aforward) == inspect.signature(Plain.forward)
    assert cls.aforward.__doc__ == "Answers."
    assert cls.aforward.__name__ == "aforward"
    assert cls.aforward.__qualname__ == "Plain.aforward"
    assert cls.aforward.__module__ == Plain.__module__
    assert "Plain.aforward" in repr(cls.aforward)
    assert cls.aforward.__wrapped__ is Plain.forward


def test_the_class_stays_what_it_was():
    cls = fresh(Plain)
    before = cls()
    members = set(dir(cls))
    async_module(cls)
    after = cls()
    assert set(dir(cls)) - members == {"aforward"}
    assert [name for name, _ in after.named_predictors()] == [name for name, _ in before.named_predictors()]
    assert [name for name, _ in after.named_parameters()] == [name for name, _ in before.named_parameters()]
    assert after.dump_state() == before.dump_state()
    assert repr(after) == repr(before)
    assert vars(after).keys() == vars(before).keys()


# Calls
def test_aforward_alone():
    """Without `acall()` there are no callbacks, but it runs."""
    assert result(async_module(fresh())().aforward())[0]


def test_forward_patched_on_the_instance():
    """As optimizers do, also with a function that takes more and returns a pair."""
    program = async_module(fresh(Plain))()
    original = program.forward
    program.forward = lambda **kwargs: (original(**kwargs), in_bridge())
    with dspy.context(lm=TwinLM()):
        prediction, bridged = result(program.acall(question="q"))
        assert bridged
        assert prediction.answer == program(question="q")[0].answer
    del program.forward
    with dspy.context(lm=TwinLM()):
        assert result(program.acall(question="q")).answer == prediction.answer


def test_a_coroutine_function_patched_in_is_driven():
    program = async_module(fresh(Plain))()

    async def patched(question):
        return program.predict(question=question)  # suspends

    program.forward = patched
    with dspy.context(lm=TwinLM()):
        assert result(program.acall(question="q")).answer


class Delegating(dspy.Module):
    """Has a `forward` only when asked for it."""

    def __getattr__(self, name: str) -> Any:
        if name == "forward":
            return where
        raise AttributeError(name)


def test_forward_from_getattr():
    """A program is called as `program.forward` in sync code finds it."""
    program = async_module(fresh(Delegating)())
    assert program()[0] is False
    assert result(program.acall())[0] is True


def test_forward_on_the_instance_alone():
    cls = type("Program", (dspy.Module,), {})
    program = cls()
    program.forward = where
    assert result(async_module(program).acall())[0]
    with pytest.raises(AttributeError, match="forward"):
        result(cls().acall())


def test_no_word_of_discouraged_calls():
    program = async_module(fresh(Plain))()
    with dspy.context(lm=TwinLM()), logged() as lines:
        result(program.acall("q"))
    assert lines == []
    with dspy.context(lm=TwinLM()), logged() as lines:
        program.forward("q")
    assert [line[2].partition("(...)")[0] for line in lines] == ["Calling module.forward"]


async def test_in_a_running_loop():
    program = async_module(fresh(Plain))()
    with dspy.context(lm=TwinLM()):
        answers = await asyncio.gather(*(program.acall(question=str(n % 3)) for n in range(12)))
    assert len({answer.answer for answer in answers}) == 3


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_types_in_string_signatures(engine: Any) -> None:
    """DSPy walks frames for types that are local to a caller inside `forward()`."""

    @async_module(engine=engine)
    class Program(dspy.Module):
        def forward(self, text: str) -> bool:
            class Item(pydantic.BaseModel):
                name: str

            return type(self.ask(text).item) is Item

        def ask(self, text: str) -> Any:
            return dspy.Predict("text -> item: Item")(text=text)

    with dspy.context(lm=DummyLM([{"item": '{"name": "a"}'}] * 2)):
        assert Program()(text="a")
        assert asyncio.run(Program().acall(text="a"))
