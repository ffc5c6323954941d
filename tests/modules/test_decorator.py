"""`@async_module` on classes and instances, and what it makes of them."""

from __future__ import annotations

import abc
import asyncio
import dataclasses
import functools
import inspect
import threading
from typing import Any

import dspy
import pytest

from dspy_parallel import (
    DecorationError,
    ThreadRequiredError,
    UnknownEngineError,
    async_module,
    await_,
    in_bridge,
    placement_of,
)
from tests.modules.lms import SyncLM, TwinLM
from tests.modules.observing import logged


class Plain(dspy.Module):
    """Not decorated; the tests decorate fresh subclasses."""

    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str, *, extra: int = 1) -> Any:
        """Answers."""
        return self.predict(question=question)


def where() -> tuple[bool, str]:
    return in_bridge(), threading.current_thread().name


class Where(dspy.Module):
    """Tells whether it is bridged, and where it runs."""

    def forward(self) -> Any:
        return where()


def fresh(cls: type = Where) -> Any:
    """A class of its own, so that engines and placement do not go from test to test."""
    return type(cls.__name__, (cls,), {})


def result(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


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


# Own, inherited and stale aforward


def test_own_aforward_is_kept():
    @async_module
    class Own(dspy.Module):
        def forward(self):
            return "sync"

        async def aforward(self):
            return "own"

    assert result(Own().acall()) == "own"


def test_inherited_aforward_is_kept_with_its_forward():
    class Base(dspy.Module):
        def forward(self):
            return "sync"

        async def aforward(self):
            return "own"

    assert result(async_module(fresh(Base))().acall()) == "own"


def test_stale_aforward_is_replaced():
    @async_module
    class Careful(dspy.ChainOfThought):
        def forward(self, **kwargs):
            return "careful", super().forward(**kwargs).answer

    with dspy.context(lm=TwinLM()):
        careful = Careful("question -> answer")
        assert result(careful.acall(question="q")) == careful(question="q")
        assert careful(question="q")[0] == "careful"


def test_stale_aforward_of_a_predict_subclass_is_replaced():
    @async_module
    class Shouting(dspy.Predict):
        def forward(self, **kwargs):
            return super().forward(**kwargs).answer.upper()

    with dspy.context(lm=TwinLM()):
        shouting = Shouting("question -> answer")
        assert result(shouting.acall(question="q")) == shouting(question="q")
        assert shouting(question="q").isupper()
        with pytest.raises(ValueError, match="Positional arguments are not allowed"):
            result(shouting.acall("q"))


def test_a_subclass_that_overrides_forward_alone():
    @async_module
    class Base(dspy.Module):
        def forward(self, x):
            return f"base {x}"

    class Below(Base):
        def forward(self, x):
            return f"below {super().forward(x)}"

    assert result(Below().acall(1)) == "below base 1"
    assert result(Base().acall(1)) == "base 1"


def test_a_subclass_that_overrides_aforward_alone():
    class Below(async_module(fresh(Where))):  # type: ignore[misc]
        async def aforward(self):
            return "own"

    assert result(Below().acall()) == "own"
    assert result(async_module(Below)().acall()) == "own"


def test_super_aforward_is_super_forward():
    """Not the subclass's forward once more."""

    @async_module
    class Base(dspy.Module):
        def forward(self, x):
            return f"base {x}"

    class Below(Base):
        def forward(self, x):
            return f"below {super().forward(x)}"

        async def aforward(self, x):
            return f"below {await super().aforward(x)}"

    assert result(Below().acall(1)) == Below()(1) == "below base 1"


def test_multiple_inheritance():
    class Polite:
        def forward(self, x):
            return f"please {super().forward(x)}"  # type: ignore[misc]

    class Base(dspy.Module):
        def forward(self, x):
            return x

        async def aforward(self, x):
            return x

    @async_module
    class Both(Polite, Base):
        pass

    assert result(Both().acall("go")) == Both()("go") == "please go"


def test_abstract_base():
    class Meta(type(dspy.Module), abc.ABCMeta):
        pass

    @async_module
    class Base(dspy.Module, metaclass=Meta):
        @abc.abstractmethod
        def forward(self):
            """To be defined below."""

    assert not hasattr(Base.aforward, "__isabstractmethod__")

    class Concrete(Base):
        def forward(self):
            return where()

    assert result(Concrete().acall())[0]
    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_forward_of_a_base_that_is_no_module():
    class Mix:
        def forward(self):
            return where()

    @async_module
    class Program(Mix, dspy.Module):
        pass

    assert result(Program().acall())[0]


def test_dataclass():
    @async_module
    @dataclasses.dataclass(eq=False)
    class Program(dspy.Module):
        times: int = 2

        def forward(self, x):
            return x * self.times

    assert result(Program(3).acall("a")) == "aaa"


def test_slots():
    @async_module
    class Program(dspy.Module):
        __slots__ = ("times",)

        def __init__(self):
            super().__init__()
            self.times = 2

        def forward(self, x):
            return x * self.times

    assert result(Program().acall("a")) == "aa"


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_static_and_class_methods(kind):
    def static():
        return where()

    def of_class(cls):
        return where()

    cls = type("Program", (dspy.Module,), {"forward": kind(static if kind is staticmethod else of_class)})
    async_module(cls)
    assert result(cls().acall())[0]


def test_wrapped_forward():
    def traced(fn):
        @functools.wraps(fn)
        def wrapper(*args, **kwargs):
            return "traced", fn(*args, **kwargs)

        return wrapper

    @async_module
    class Program(dspy.Module):
        @traced
        def forward(self):
            return in_bridge()

    assert result(Program().acall()) == ("traced", True)


# Classes that override __call__


def test_own_call_alone():
    @async_module
    class Program(dspy.Module):
        def __call__(self, x):
            return "called", x, in_bridge()

    assert Program()("a") == ("called", "a", False)
    assert result(Program().acall("a")) == ("called", "a", True)
    assert not hasattr(Program, "aforward")


def test_own_call_and_forward():
    class Program(dspy.Module):
        def __call__(self, *args):
            return "called", super().__call__(*args)

        def forward(self):
            return in_bridge()

    async_module(Program)
    assert result(Program().acall()) == ("called", True)
    assert result(Program().aforward()) is True


def test_own_call_of_a_predict_subclass():
    @async_module
    class Tidy(dspy.Predict):
        def __call__(self, question):
            return super().__call__(question=question.strip())

    with dspy.context(lm=TwinLM()):
        tidy = Tidy("question -> answer")
        assert result(tidy.acall(" q ")).answer == tidy("q").answer


def test_own_acall_is_kept():
    @async_module
    class Program(dspy.Module):
        def __call__(self):
            return "sync"

        async def acall(self):
            return "own"

    assert result(Program().acall()) == "own"


# Bad input


def generator(self):
    yield 1


async def async_generator(self):
    yield 1


async def coroutine(self):
    return 1


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (generator, r"Program\.forward is a generator function"),
        (async_generator, r"Program\.forward is a generator function"),
        (coroutine, r"Program\.forward is a coroutine function already\. Rename it to aforward"),
        (3, r"Program\.forward is 3, which cannot be called"),
    ],
)
@pytest.mark.parametrize("on", ["class", "instance"])
def test_unfit_forward(forward, message, on):
    cls = type("Program", (dspy.Module,), {"forward": forward})
    with pytest.raises(DecorationError, match=message):
        async_module(cls if on == "class" else cls())


@pytest.mark.parametrize("on", ["class", "instance"])
def test_no_forward(on):
    class Program(dspy.Module):
        pass

    with pytest.raises(DecorationError, match=r"Program has no forward\(\)"):
        async_module(Program if on == "class" else Program())


def test_async_call():
    class Program(dspy.Module):
        async def __call__(self):
            return 1

    with pytest.raises(
        DecorationError, match=r"Program\.__call__ is a coroutine function already\. Rename it to acall"
    ):
        async_module(Program)


@pytest.mark.parametrize(
    ("target", "name"),
    [(test_async_call, "test_async_call"), (int, "int"), ("text", "an object of type str"), (TwinLM, "TwinLM")],
)
def test_what_is_no_module(target, name):
    with pytest.raises(DecorationError, match=f"applied to .*{name}, which is neither a subclass nor an instance"):
        async_module(target)
    with pytest.raises(TypeError):
        async_module(engine="loop")(target)


def test_unknown_engine():
    with pytest.raises(UnknownEngineError, match="'process'"):
        async_module(engine="process")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="process"):
        async_module(fresh(), engine="process")


def test_bad_parts_of_an_instance_are_passed_over():
    """They may never be called; if they are, DSPy's own error says what is wrong."""
    program = fresh(Plain)()
    program.part = type("Part", (dspy.Module,), {"forward": coroutine})()
    async_module(program)
    assert not hasattr(program.part, "aforward")


# What a decorated class looks like


def test_signature_name_and_documentation():
    cls = async_module(fresh(Plain))
    assert inspect.iscoroutinefunction(cls.aforward)
    assert inspect.signature(cls.aforward) == inspect.signature(Plain.forward)
    assert cls.aforward.__doc__ == "Answers."
    assert cls.aforward.__name__ == "aforward"
    assert cls.aforward.__qualname__ == "Plain.aforward"
    assert cls.aforward.__module__ == __name__
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
