"""What cannot be decorated is refused at once."""

from __future__ import annotations

import dspy
import pytest

from dspy_parallel import DecorationError, async_module
from tests.modules.plain import Plain, fresh
from tests.support.stub_lms import TwinLM


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
        (3, r"Program\.forward is an object of type int, which cannot be called"),
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


def test_bad_parts_of_an_instance_are_passed_over():
    """They may never be called; if they are, DSPy's own error says what is wrong."""
    program = fresh(Plain)()
    program.part = type("Part", (dspy.Module,), {"forward": coroutine})()
    async_module(program)
    assert not hasattr(program.part, "aforward")
