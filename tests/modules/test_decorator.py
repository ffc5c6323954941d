"""`@async_module` on classes and instances, and what it makes of them."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import dspy
import pytest

from dspy_parallel import ThreadRequiredError, async_module, await_, in_bridge, placement_of
from tests.modules.lms import SyncLM, TwinLM
from tests.modules.observing import logged
from tests.modules.plain import Plain, Where, fresh, result, where


# Forms of the decorator
def test_bare_on_a_class():
    cls = fresh()
    assert async_module(cls) is cls
    assert result(cls().acall())[0]


def test_called_without_arguments():
    assert result(async_module()(fresh())().acall())[0]


@pytest.mark.parametrize(("engine", "on_loop"), [("loop", True), ("thread", False), ("auto", False)])
def test_engine(engine, on_loop):
    cls = async_module(engine=engine)(fresh())
    bridged, thread = result(cls().acall())
    assert bridged
    assert (thread == "MainThread") is on_loop


def test_auto_moves_to_the_loop_by_class():
    cls = async_module(fresh())
    placement_of(cls).state = "loop"
    assert result(cls().acall()) == (True, "MainThread")


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


def test_decorating_again_changes_the_engine():
    cls = async_module(engine="thread")(fresh())
    async_module(engine="loop")(cls)
    assert result(cls().acall()) == (True, "MainThread")


def test_a_subclass_may_have_another_engine():
    base = async_module(engine="thread")(fresh())
    below = async_module(engine="loop")(fresh(base))
    assert result(below().acall())[1] == "MainThread"
    assert result(base().acall())[1] != "MainThread"


def test_a_subclass_inherits_the_engine():
    cls = fresh(async_module(engine="loop")(fresh()))
    assert result(cls().acall()) == (True, "MainThread")


def test_the_strict_engine_refuses_what_needs_a_thread():
    cls = async_module(engine="loop")(fresh(Plain))
    with dspy.context(lm=SyncLM()), pytest.raises(ThreadRequiredError, match="SyncLM has no async counterpart"):
        result(cls().acall("q"))


def test_no_bridge_in_a_plain_call():
    cls = async_module(fresh())
    assert cls()() == (False, "MainThread")


async def coroutine(self):
    return 1


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


def test_a_decorated_program_inside_another_on_the_loop():
    inner = async_module(engine="loop")(fresh())

    @async_module(engine="loop")
    class Outer(dspy.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner()

        def forward(self):
            return self.inner(), await_(self.inner.acall())

    assert result(Outer().acall()) == ((True, "MainThread"), (True, "MainThread"))


async def test_in_a_running_loop():
    program = async_module(fresh(Plain))()
    with dspy.context(lm=TwinLM()):
        answers = await asyncio.gather(*(program.acall(question=str(n % 3)) for n in range(12)))
    assert len({answer.answer for answer in answers}) == 3
