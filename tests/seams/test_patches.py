"""Patched functions look, copy and pickle like the functions themselves."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import textwrap
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import async_module, seams
from tests.support.children import PRELOADED

ROOT = Path(__file__).resolve().parents[2]


# DSPy leaves sqlite connections of its cache to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _targets() -> list[tuple[Any, str]]:
    return [
        (dspy.BaseLM, "__call__"),
        (dspy.Embedder, "__call__"),
        (dspy.Tool, "__call__"),
        (dspy.Tool, "acall"),
        (time, "sleep"),
        (asyncio, "run"),
        (subprocess.Popen, "communicate"),
        (Future, "result"),
        (threading.Thread, "join"),
    ]


@pytest.mark.parametrize(("owner", "name"), _targets(), ids=lambda value: getattr(value, "__name__", value))
def test_introspection_is_as_without_the_patch(owner: Any, name: str) -> None:
    def look() -> list[Any]:
        fn = getattr(owner, name)
        seen: list[Any] = [
            fn.__name__,
            fn.__qualname__,
            fn.__module__,
            fn.__doc__,
            fn == getattr(owner, name),
            repr(type(fn.__class__)),
        ]
        seen += [inspect.isfunction(fn), inspect.isbuiltin(fn), inspect.iscoroutinefunction(fn), callable(fn)]
        for find in (inspect.signature, inspect.getsource, inspect.unwrap):
            try:
                found = find(fn)
                seen.append(found if find is not inspect.unwrap else found.__qualname__)
            except (TypeError, ValueError) as exc:
                seen.append(type(exc))
        return seen

    patched = look()
    seams.uninstall()
    assert look() == patched


@pytest.mark.parametrize(("owner", "name"), _targets(), ids=lambda value: getattr(value, "__name__", value))
@pytest.mark.parametrize("pickler", [pickle, cloudpickle], ids=lambda pickler: pickler.__name__)
def test_pickles_do_not_mention_this_package(owner: Any, name: str, pickler: Any) -> None:
    assert copy.deepcopy(getattr(owner, name)) == getattr(owner, name)
    assert copy.copy(getattr(owner, name)) == getattr(owner, name)
    if pickler is cloudpickle and isinstance(owner, type):
        pytest.skip("cloudpickle takes a method that is looked up on a patched class for a local function")
    data = pickler.dumps(getattr(owner, name))
    assert b"dspy_parallel" not in data
    if pickler is pickle:
        assert len(data) < 120
        assert pickle.loads(data) == getattr(owner, name)


def test_bound_methods_and_what_holds_them() -> None:
    lm = dspy.LM("openai/any", api_key="x", temperature=0.5)
    for pickler in (pickle, cloudpickle):
        back = pickler.loads(pickler.dumps(lm.__call__))
        assert back.__self__.model == "openai/any"
        assert back.__func__ is lm.__call__.__func__
    assert lm.__call__ == lm.__call__
    assert copy.deepcopy(lm.__call__).__self__ is not lm
    assert inspect.ismethod(lm.__call__)
    copied = copy.deepcopy(lm)
    assert type(copied) is dspy.LM
    assert copied.kwargs == lm.kwargs
    program = dspy.ChainOfThought("question -> answer")
    program.predict.lm = lm
    again = cloudpickle.loads(cloudpickle.dumps(program))
    assert again.predict.lm.model == lm.model
    assert copy.deepcopy(program).predict.lm.model == lm.model


def test_a_class_pickled_by_value_takes_its_own_method_along(tmp_path: Path) -> None:
    """As cloudpickle does with classes of a script or notebook; the reader need not have this package."""
    write = """
    import sys, cloudpickle, dspy
    from dspy_parallel import seams
    seams.install()
    class Mine(dspy.BaseLM):
        def __call__(self, prompt=None, **kwargs):
            return [prompt.upper()]
    open(sys.argv[1], "wb").write(cloudpickle.dumps((Mine, Mine("m"))))
    """
    read = """
    import sys, cloudpickle
    sys.modules["dspy_parallel"] = None
    cls, lm = cloudpickle.load(open(sys.argv[1], "rb"))
    assert lm("x") == ["X"] and type(lm) is cls and type(vars(cls)["__call__"]).__name__ == "function"
    """
    for program in (write, read):
        command = [*PRELOADED, "-c", textwrap.dedent(program), str(tmp_path / "pickle")]
        subprocess.run(command, cwd=ROOT, check=True, timeout=240)


def test_nothing_is_stored_on_instances() -> None:
    """DSPy deep-copies and pickles those."""

    class Program(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.predict = dspy.Predict("question -> answer")
            self.tool = dspy.Tool(len, name="len")

        def forward(self, question: str) -> Any:
            return self.predict(question=question)

    program = async_module(Program())
    program.predict.lm = lm = DummyLM([{"answer": "a"}] * 3)
    assert asyncio.run(program.acall(question="q")).answer == "a"
    ours = ("wrapt", "dspy_parallel")
    for instance in (program, program.predict, program.tool, lm):
        assert [value for value in vars(instance).values() if type(value).__module__.startswith(ours)] == []
    assert asyncio.run(copy.deepcopy(program).acall(question="q")).answer == "a"
