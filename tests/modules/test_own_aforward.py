"""Classes with an `aforward()`, `__call__()` or `acall()` of their own, inherited or stale."""

from __future__ import annotations

import abc
import dataclasses
import functools

import dspy
import pytest

from dspy_parallel import async_module, in_bridge
from tests.modules.lms import TwinLM
from tests.modules.plain import Where, fresh, result, where


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


async def coroutine(self):
    return 1
