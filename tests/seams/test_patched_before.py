"""Patches that others have put on DSPy, before ours or after: the program's calls run them, as without the bridge."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import dspy
import pytest
import wrapt

from dspy_parallel import seams
from dspy_parallel.seams.async_counterparts import is_bypassed, is_counterpart
from tests.seams.programs import alone, together

seen: list[str] = []

pytestmark = pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning")


class Silent(dspy.BaseLM):
    """Answers at once, on either side."""

    def __init__(self) -> None:
        super().__init__("silent", cache=False)

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        seen.append("forward")
        return self._reply()

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        seen.append("aforward")
        return self._reply()

    def _reply(self) -> Any:
        message = SimpleNamespace(content="[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]", tool_calls=None)
        choice = SimpleNamespace(message=message, finish_reason="stop")
        return SimpleNamespace(choices=[choice], usage={}, model="silent")


class Guarded(Silent):
    """A subclass with a method of its own around the inherited one."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        seen.append("subclass")
        return super().__call__(*args, **kwargs)


def by_wraps(original: Any) -> Any:
    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        seen.append("patch")
        return original(*args, **kwargs)

    return wrapper


def by_name(original: Any) -> Any:
    def __call__(*args: Any, **kwargs: Any) -> Any:
        seen.append("patch")
        return original(*args, **kwargs)

    return __call__


def by_lambda(original: Any) -> Any:
    return lambda *args, **kwargs: (seen.append("patch"), original(*args, **kwargs))[1]


def by_wrapt(original: Any) -> Any:
    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        seen.append("patch")
        return wrapped(*args, **kwargs)

    return wrapt.FunctionWrapper(original, wrapper)


def twice(original: Any) -> Any:
    return by_wrapt(by_wraps(original))


@pytest.fixture(params=["before", "after"])
def patch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts something around a method, before our patches are there or after."""

    def put(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        if request.param == "before":
            seams.uninstall()
        monkeypatch.setattr(owner, name, make(getattr(owner, name)))
        seams.install()
        seen.clear()

    return put


@pytest.mark.parametrize("make", [by_wraps, by_name, by_lambda, by_wrapt, twice])
@pytest.mark.parametrize("kind", [Silent, Guarded])
@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_a_patch_of_base_lm(patch: Any, make: Any, kind: type[Silent], engine: str) -> None:
    """A guard, a counter, a tracer on `dspy.BaseLM.__call__`, however it is made."""
    patch(dspy.BaseLM, "__call__", make)

    def program() -> Any:
        return dspy.Predict("question -> answer")(question="?").answer

    with dspy.context(lm=kind()):
        assert program() == "yes"
        stock = [name for name in seen if "forward" not in name]
        seen.clear()
        assert alone(program, engine=engine) == "yes"
    assert [name for name in seen if "forward" not in name] == stock
    assert stock.count("patch") == (2 if make is twice else 1)


def test_calls_of_a_patched_lm_are_made_at_once(patch: Any) -> None:
    """In threads, if the patch was there before ours."""
    patch(dspy.BaseLM, "__call__", by_wraps)
    with dspy.context(lm=Silent()):
        assert together(lambda: dspy.Predict("question -> answer")(question="?").answer) == ["yes"] * 3
    assert seen.count("patch") == 3


@pytest.mark.parametrize("make", [by_wraps, by_wrapt, twice])
@pytest.mark.parametrize("owner", [dspy.BaseLM, Silent])
def test_both_sides_patched_by_one_and_the_same(patch: Any, owner: Any, make: Any) -> None:
    """As OpenTelemetry's instrumentations do: what is to be done for a call is done once, by one side or the other."""
    patch(owner, "__call__", make)
    patch(owner, "acall", make)
    with dspy.context(lm=Silent()):
        alone(lambda: dspy.Predict("question -> answer")(question="?").answer, engine="loop")
    assert seen.count("patch") == (2 if make is twice else 1)
    assert "aforward" in seen


@pytest.mark.parametrize(
    ("owner", "name"),
    [(dspy.Predict, "__call__"), (dspy.Module, "__call__"), (dspy.Predict, "forward"), (Silent, "__call__")],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_patches_of_modules_and_subclasses(patch: Any, owner: Any, name: str) -> None:
    """Wherever the method is found: in the class itself or in one above."""
    patch(owner, name, by_wraps)
    with dspy.context(lm=Silent()):
        assert alone(lambda: dspy.Predict("question -> answer")(question="?").answer) == "yes"
    assert seen.count("patch") == 1


@pytest.mark.parametrize("owner", [dspy.BaseLM, dspy.Predict])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_patch_around_what_stands_in_the_class(owner: Any, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken from its `__dict__`, the method is a plain function, called with its instance first."""
    if when == "before":
        seams.uninstall()
    else:
        seams.install()
    monkeypatch.setattr(owner, "__call__", by_wraps(vars(owner)["__call__"]))
    seams.install()
    seen.clear()
    with dspy.context(lm=Silent()):
        assert alone(lambda: dspy.Predict("question -> answer")(question="?").answer) == "yes"
    assert seen.count("patch") == 1


def test_a_patch_of_one_lm(patch: Any) -> None:
    """On the instance, as tests do."""
    lm = Silent()
    patch(lm, "forward", by_wraps)
    with dspy.context(lm=lm):
        assert alone(lambda: dspy.Predict("question -> answer")(question="?").answer) == "yes"
    assert seen == ["patch", "forward"]


async def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


@pytest.mark.parametrize("engine", ["auto", "thread", "loop"])
def test_a_patch_of_async_tools(patch: Any, engine: str) -> None:
    """A coroutine function behind a patched `Tool.__call__`."""
    patch(dspy.Tool, "__call__", by_wraps)
    with dspy.context(allow_tool_async_sync_conversion=True):
        assert alone(lambda: dspy.Tool(double)(number=3), engine=engine) == 6
    assert seen == ["patch"]


@pytest.mark.parametrize("engine", ["auto", "thread", "loop"])
def test_a_mock_of_sleep(patch: Any, engine: str) -> None:
    """`patch("time.sleep")` does not wait."""
    mock = MagicMock(return_value=None)
    patch(time, "sleep", lambda original: mock)
    assert alone(lambda: time.sleep(3600), engine=engine) is None
    mock.assert_any_call(3600)


def test_a_wrapper_of_sleep(patch: Any) -> None:
    """Somebody's function is called, and may wait."""
    patch(time, "sleep", by_wraps)
    alone(lambda: time.sleep(0.001))
    assert "patch" in seen


def test_what_counts_as_patched() -> None:
    """Everything but a method as its class defines it."""
    base = Guarded.aforward
    for make in (by_wraps, by_name, by_lambda, by_wrapt, twice, lambda _: MagicMock()):
        assert is_bypassed(make(base), dspy.BaseLM.acall)
        assert not is_bypassed(make(base), make(base))
    assert is_bypassed(by_wraps(base), functools.partial(print))
    for method in (Guarded.__call__, Silent().forward, Guarded().__call__, dspy.BaseLM.__call__, dspy.Tool.__call__):
        assert not is_bypassed(method, dspy.BaseLM.acall)


def test_who_decorates_both_sides_of_a_class_means_it() -> None:
    """A user's decorator is no patch where the class has an async side of its own; on DSPy's classes it is one."""

    class Own(dspy.Module):
        @by_wraps
        def forward(self) -> None: ...

        async def aforward(self) -> None: ...

    assert is_counterpart(Own, "forward", "aforward")
    assert is_counterpart(dspy.Predict, "forward", "aforward")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dspy.Predict, "forward", by_wraps(dspy.Predict.forward))
        assert not is_counterpart(dspy.Predict, "forward", "aforward")
