"""Decorator, mixin and `install()`: each makes the same of every kind of class."""

from __future__ import annotations

import abc
import dataclasses
import functools
import types
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pytest

from dspy_parallel import AsyncModuleMixin, async_module, in_bridge, install, uninstall
from tests.modules.plain import Where, fresh, result, where
from tests.support.known_programs import known
from tests.support.stub_lms import TwinLM

Enter = Callable[..., Any]
BRIDGED = (True, "MainThread")


def mixed(cls: type, **options: Any) -> Any:
    return types.new_class(cls.__name__, (AsyncModuleMixin, cls), options)


def installed(cls: type, **options: Any) -> Any:
    install(**options)
    return cls


WAYS: dict[str, Enter] = {"decorator": async_module, "mixin": mixed, "install": installed}


@pytest.fixture(params=WAYS)
def enter(request: pytest.FixtureRequest) -> Iterator[Enter]:
    """Makes a class awaitable."""
    yield WAYS[request.param]
    uninstall()


class Own(dspy.Module):
    def forward(self) -> Any:
        return "sync"

    async def aforward(self) -> Any:
        return "own"


class BelowOwn(Own):
    def forward(self) -> Any:
        return "below"


class Base(dspy.Module):
    def forward(self, x: Any) -> Any:
        return x

    async def aforward(self, x: Any) -> Any:
        return x


class Polite:
    def forward(self, x: Any) -> Any:
        return f"please {super().forward(x)}"  # type: ignore[misc]


class Both(Polite, Base):
    pass


class PlainFunction:
    def forward(self) -> Any:
        return where()


class OfNoModule(PlainFunction, dspy.Module):
    pass


@dataclasses.dataclass(eq=False)
class Data(dspy.Module):
    times: int = 2

    def forward(self, x: Any) -> Any:
        return x * self.times


class Slots(dspy.Module):
    __slots__ = ("times",)

    def __init__(self) -> None:
        super().__init__()
        self.times = 2

    def forward(self, x: Any) -> Any:
        return x * self.times


class Static(dspy.Module):
    forward = staticmethod(where)


class OfClass(dspy.Module):
    @classmethod
    def forward(cls) -> Any:
        return where()


def traced(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return "traced", fn(*args, **kwargs)

    return wrapper


class Wrapped(dspy.Module):
    @traced
    def forward(self) -> Any:
        return in_bridge()


class CallAlone(dspy.Module):
    def __call__(self, x: Any) -> Any:
        return "called", x, in_bridge()


class CallAndForward(dspy.Module):
    def __call__(self, *args: Any) -> Any:
        return "called", super().__call__(*args)

    def forward(self) -> Any:
        return in_bridge()


class OwnACall(dspy.Module):
    def __call__(self) -> Any:
        return "sync"

    async def acall(self) -> Any:
        return "own"


class Meta(type(dspy.Module), abc.ABCMeta):  # type: ignore[misc]
    pass


class Abstract(dspy.Module, metaclass=Meta):
    @abc.abstractmethod
    def forward(self) -> Any:
        """To be defined below."""


class Concrete(Abstract):
    def forward(self) -> Any:
        return where()[0]


@pytest.mark.parametrize(
    ("cls", "arguments", "expected"),
    [
        (Own, "", "own"),
        (BelowOwn, "", "below"),
        (Both, ["go"], "please go"),
        (OfNoModule, "", BRIDGED),
        (Data, "a", "aa"),
        (Slots, "a", "aa"),
        (Static, "", BRIDGED),
        (OfClass, "", BRIDGED),
        (Wrapped, "", ("traced", True)),
        (CallAlone, "a", ("called", "a", True)),
        (CallAndForward, "", ("called", True)),
        (OwnACall, "", "own"),
        (Concrete, "", True),
    ],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_what_is_awaited(enter: Enter, overlap: bool, cls: type, arguments: Any, expected: Any) -> None:
    """Own and inherited async sides stay if they belong to the sync ones, and stale ones are replaced."""
    assert result(enter(fresh(cls), engine="loop", overlap=overlap)().acall(*arguments)) == expected


class Careful(dspy.ChainOfThought):
    def forward(self, **kwargs: Any) -> Any:
        return "careful", super().forward(**kwargs).answer


class Shouting(dspy.Predict):
    def forward(self, **kwargs: Any) -> Any:
        return super().forward(**kwargs).answer.upper()


class Tidy(dspy.Predict):
    """Its inherited `acall` is stale, and is looked up before anything could be done about it in a call."""

    def __call__(self, question: str) -> Any:
        return "called", super().__call__(question=question.strip()).answer


@pytest.mark.parametrize("cls", [Careful, Shouting, Tidy])
def test_subclasses_of_dspys_own(enter: Enter, cls: type) -> None:
    """What they inherit is the async side of something else."""
    with dspy.context(lm=TwinLM()):
        program = enter(fresh(cls))("question -> answer")
        assert result(program.acall(question=" q ")) == program(question=" q ")
        if cls is Shouting:
            with pytest.raises(ValueError, match="Positional arguments are not allowed"):
                result(program.acall("q"))


@pytest.mark.parametrize(("engine", "on_loop"), [("loop", True), ("thread", False), ("auto", False)])
def test_engines(enter: Enter, engine: str, on_loop: bool) -> None:
    cls = enter(fresh(), engine=engine)
    bridged, thread = result(cls().acall())
    assert bridged
    assert (thread == "MainThread") is on_loop
    assert cls()() == (False, "MainThread")


def test_auto_runs_what_is_known_on_the_loop(enter: Enter) -> None:
    cls = enter(fresh())
    with known(cls):
        assert result(cls().acall()) == BRIDGED


def test_the_engine_is_inherited_and_can_be_changed() -> None:
    for way in (async_module, mixed):
        base = way(fresh(), engine="loop")
        assert result(fresh(base)().acall()) == BRIDGED
        other = (
            way(fresh(base), engine="thread") if way is async_module else type(base)("B", (base,), {}, engine="thread")
        )
        assert result(other().acall())[1] != "MainThread"
        assert result(base().acall()) == BRIDGED


@pytest.mark.parametrize("way", [async_module, mixed])
def test_subclasses_of_a_class_that_has_been_made_awaitable(way: Enter) -> None:
    class First(dspy.Module):
        def forward(self, x: Any) -> Any:
            return f"base {x}"

    base: Any = way(First)

    class Sync(base):
        def forward(self, x: Any) -> Any:
            return f"below {super().forward(x)}"

    class Async(Sync):
        async def aforward(self, x: Any) -> Any:
            return f"own {x}"

    class Super(base):
        """Its base's async side is the base's forward, not its own once more."""

        def forward(self, x: Any) -> Any:
            return f"below {super().forward(x)}"

        async def aforward(self, x: Any) -> Any:
            return f"below {await super().aforward(x)}"

    assert result(base().acall(1)) == "base 1"
    assert result(Sync().acall(1)) == result(Super().acall(1)) == Super()(1) == "below base 1"
    assert result(Async().acall(1)) == "own 1"
    abstract: Any = way(fresh(Abstract))
    assert not hasattr(vars(abstract).get("aforward"), "__isabstractmethod__")
    with pytest.raises(TypeError, match="abstract"):
        abstract()
    concrete: Any = type("Concrete", (abstract,), {"forward": lambda self: where()})
    assert result(concrete().acall())[0]


# What only a mixin can be
def test_a_mixin_beside_other_bases() -> None:
    class Last(Where, AsyncModuleMixin):
        pass

    class Part(AsyncModuleMixin, engine="loop"):
        def forward(self) -> Any:
            return where()

    class OfNoModule(Part, dspy.Module):
        pass

    class WithoutForward(AsyncModuleMixin, dspy.Module, engine="loop"):
        pass

    class WithForward(WithoutForward):
        def forward(self) -> Any:
            return where()

    class Registered:
        key = ""

        def __init_subclass__(cls, *, key: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            cls.key = key

    class Keywords(AsyncModuleMixin, Registered, Where, engine="loop", key="k"):
        pass

    assert result(Last().acall())[0]
    assert not hasattr(Where, "aforward")
    assert not hasattr(Part, "aforward")
    assert Keywords.key == "k"
    for cls in (OfNoModule, WithForward, Keywords):
        assert result(cls().acall()) == BRIDGED


def test_decorated_as_well() -> None:
    """The one that says more, and later, counts."""
    assert result(async_module(mixed(fresh(), engine="thread"), engine="loop")().acall()) == BRIDGED
