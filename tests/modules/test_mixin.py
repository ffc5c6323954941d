"""`AsyncModuleMixin`: the decorator by inheritance."""

from __future__ import annotations

import abc
import asyncio
import threading
from typing import Any

import dspy
import pytest

from dspy_parallel import AsyncModuleMixin, DecorationError, UnknownEngineError, async_module, in_bridge
from tests.modules.lms import TwinLM


def where() -> tuple[bool, str]:
    return in_bridge(), threading.current_thread().name


def result(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


class Where(AsyncModuleMixin, dspy.Module):
    def forward(self) -> Any:
        return where()


def test_bare():
    class Program(Where):
        pass

    assert result(Program().acall())[0]
    assert Program()()[0] is False


@pytest.mark.parametrize(("engine", "on_loop"), [("loop", True), ("thread", False), ("auto", False)])
def test_engine(engine, on_loop):
    class Program(AsyncModuleMixin, dspy.Module, engine=engine):
        def forward(self):
            return where()

    bridged, thread = result(Program().acall())
    assert bridged
    assert (thread == "MainThread") is on_loop


def test_the_engine_is_inherited_and_can_be_changed():
    class Base(AsyncModuleMixin, dspy.Module, engine="loop"):
        def forward(self):
            return where()

    class Same(Base):
        def forward(self):
            return super().forward()

    class Other(Base, engine="thread"):
        pass

    assert result(Same().acall())[1] == "MainThread"
    assert result(Other().acall())[1] != "MainThread"
    assert result(Base().acall())[1] == "MainThread"


def test_a_base_without_forward():
    class Base(AsyncModuleMixin, dspy.Module, engine="loop"):
        pass

    class Program(Base):
        def forward(self):
            return where()

    assert result(Program().acall()) == (True, "MainThread")


def test_an_abstract_base():
    class Meta(type(dspy.Module), abc.ABCMeta):
        pass

    class Base(AsyncModuleMixin, dspy.Module, metaclass=Meta):
        @abc.abstractmethod
        def forward(self):
            """To be defined below."""

    class Program(Base):
        def forward(self):
            return where()

    assert Base.__abstractmethods__ == {"forward"}
    assert result(Program().acall())[0]


def test_beside_a_module_class():
    """The mixin may be added to a class that exists already, on either side."""

    class Plain(dspy.Module):
        def forward(self):
            return where()

    class First(AsyncModuleMixin, Plain):
        pass

    class Last(Plain, AsyncModuleMixin):
        pass

    assert result(First().acall())[0]
    assert result(Last().acall())[0]
    assert not hasattr(Plain, "aforward")


def test_beside_dspys_own():
    class Careful(AsyncModuleMixin, dspy.ChainOfThought):
        def forward(self, **kwargs):
            return "careful", super().forward(**kwargs).answer

    with dspy.context(lm=TwinLM()):
        careful = Careful("question -> answer")
        assert result(careful.acall(question="q")) == careful(question="q")


def test_own_aforward_is_kept_and_a_stale_one_replaced():
    class Own(AsyncModuleMixin, dspy.Module):
        def forward(self):
            return "sync"

        async def aforward(self):
            return "own"

    class Below(Own):
        def forward(self):
            return "below"

    assert result(Own().acall()) == "own"
    assert result(Below().acall()) == "below"


def test_own_call():
    class Program(AsyncModuleMixin, dspy.Module):
        def __call__(self):
            return where()

    assert result(Program().acall())[0]


def test_other_class_keywords_go_on():
    class Registered:
        def __init_subclass__(cls, *, key="", **kwargs):
            super().__init_subclass__(**kwargs)
            cls.key = key

    class Program(AsyncModuleMixin, Registered, dspy.Module, engine="loop", key="k"):
        def forward(self):
            return where()

    assert Program.key == "k"
    assert result(Program().acall())[1] == "MainThread"


def test_decorated_as_well():
    """The one that says more, and later, counts."""

    @async_module(engine="loop")
    class Program(AsyncModuleMixin, dspy.Module, engine="thread"):
        def forward(self):
            return where()

    assert result(Program().acall())[1] == "MainThread"


def test_a_mixin_of_classes_that_are_no_modules():
    class Part(AsyncModuleMixin, engine="loop"):
        def forward(self):
            return where()

    class Program(Part, dspy.Module):
        pass

    assert not hasattr(Part, "aforward")
    assert result(Program().acall()) == (True, "MainThread")


def test_bad_classes():
    with pytest.raises(DecorationError, match=r"Bad\.forward is a coroutine function already"):

        class Bad(AsyncModuleMixin, dspy.Module):
            async def forward(self):
                return 1

    with pytest.raises(DecorationError, match="generator function"):

        class AlsoBad(AsyncModuleMixin, dspy.Module):
            def forward(self):
                yield 1

    with pytest.raises(UnknownEngineError, match="'turbo'"):

        class Unknown(AsyncModuleMixin, dspy.Module, engine="turbo"):
            def forward(self):
                return 1
