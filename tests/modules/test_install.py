"""`install()` and `uninstall()`: every forward-only module, and everything as before afterwards."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import dspy
import pytest

import dspy_parallel
from dspy_parallel import UnknownEngineError, async_module, in_bridge, install, seams, uninstall
from dspy_parallel.seams.call_spans import watching
from tests.support.stub_lms import TwinLM


def result(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def where() -> tuple[bool, str]:
    return in_bridge(), threading.current_thread().name


class Early(dspy.Module):
    def forward(self) -> Any:
        return where()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    install()
    yield
    uninstall()


def test_classes_that_are_defined_later():
    class Late(dspy.Module):
        def forward(self):
            return where()

    assert result(Late().acall())[0]
    assert result(Late().aforward())[0]


def test_a_module_without_forward_says_so():
    class Empty(dspy.Module):
        pass

    with pytest.raises(AttributeError, match="'Empty' object has no attribute 'forward'"):
        result(Empty().acall())


def test_what_is_called_like_a_module():
    """`dspy.Parallel` and retrievers are no subclasses of `dspy.Module`."""
    with dspy.context(lm=TwinLM()):
        pairs = [(dspy.Predict("q -> a"), {"q": str(n)}) for n in range(3)]
        run = dspy.Parallel(num_threads=2, disable_progress_bar=True)
        assert [p.a for p in result(run.acall(pairs))] == [p.a for p in run(pairs)]


def test_a_second_call_changes_the_engine():
    install(engine="loop")
    assert result(Early().acall()) == (True, "MainThread")
    install(engine="thread")
    assert result(Early().acall())[1] != "MainThread"


def test_the_decorators_choice_counts():
    @async_module(engine="loop")
    class Chosen(dspy.Module):
        def forward(self):
            return where()

    install(engine="thread")
    assert result(Chosen().acall()) == (True, "MainThread")
    uninstall()
    assert result(Chosen().acall()) == (True, "MainThread")


def test_decorated_while_installed_stays_decorated():
    cls = type("Early", (Early,), {})
    result(cls().acall())
    async_module(engine="loop")(cls)
    async_module(engine="loop")(Early)
    try:
        uninstall()
        assert result(cls().acall()) == (True, "MainThread")
        assert result(Early().acall()) == (True, "MainThread")
    finally:
        del Early.aforward


def test_unknown_engine_changes_nothing():
    with pytest.raises(UnknownEngineError):
        install(engine="warp")  # type: ignore[arg-type]
    assert result(Early().acall())[0]


def members(cls: type) -> dict[str, Any]:
    return {name: value for name, value in vars(cls).items() if name not in ("__abstractmethods__",)}


def test_uninstall_restores_every_class():
    uninstall()
    classes = [dspy.Module, Early, dspy.BestOfN, dspy.Parallel, dspy.KNN, dspy.Retrieve, dspy.BaseLM, dspy.Tool]
    before = [members(cls) for cls in classes]
    install()
    result(Early().acall())
    assert [members(cls) for cls in classes] != before
    uninstall()
    for cls, expected in zip(classes, before, strict=True):
        assert {name for name, value in members(cls).items() ^ expected.items()} == set(), cls
    uninstall()
    with pytest.raises(AttributeError, match="aforward"):
        result(Early().acall())


def test_uninstall_leaves_what_others_have_wrapped():
    """Tracing libraries wrap `Module.acall`; taking away ours must not take away theirs."""
    uninstall()
    stock = dspy.Module.acall
    install()
    ours = dspy.Module.acall

    async def traced(self, *args, **kwargs):
        return await ours(self, *args, **kwargs)

    dspy.Module.acall = traced
    try:
        uninstall()
        assert dspy.Module.acall is traced
        assert result(async_module(type("Early", (Early,), {}))().acall())[0]
    finally:
        dspy.Module.acall = stock


@pytest.mark.parametrize("first", [install, seams.install])
def test_nothing_stays_whatever_was_patched_first(first):
    """What a seam is around must not come back with the seam when it is put back."""
    uninstall()
    stock = dict(vars(dspy.Module))
    for _ in range(2):
        first()
        with watching():
            install(engine="loop")
        uninstall()
        assert dict(vars(dspy.Module)) == stock
        with watching():
            first()
            install(engine="loop")
            uninstall()
        assert dict(vars(dspy.Module)) == stock


def test_classes_that_are_gone():
    """Nothing is kept alive. (On the loop, as an idle worker thread may hold its last program for a while.)"""
    import gc
    import weakref

    install(engine="loop")
    cls = type("Gone", (dspy.ChainOfThought,), {"forward": lambda self: 1, "__init__": lambda self: None})
    result(cls().acall())
    gone = weakref.ref(cls)
    del cls
    gc.collect()
    assert gone() is None


async def test_while_programs_run():
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait():
        started.set()
        await go_on.wait()
        return "done"

    class Waiting(dspy.Module):
        def forward(self):
            return dspy_parallel.await_(wait())

    task = asyncio.create_task(Waiting().acall())
    await started.wait()
    install(engine="loop")
    go_on.set()
    assert await task == "done"
