"""A LangGraph that is built differently gives one clear error before anything is converted."""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.metadata import version
from typing import Any

import pytest
from langgraph._internal import _runnable
from langgraph.graph import StateGraph
from langgraph.graph._branch import BranchSpec
from typing_extensions import TypedDict

from dspy_parallel import DSPyParallelError
from dspy_parallel.errors import LangGraphVersionError
from dspy_parallel.langgraph import async_node, langgraph_version, parallelize_graph
from dspy_parallel.langgraph.langgraph_version import check_langgraph
from tests.support.children import PRELOADED, run_child


class State(TypedDict):
    n: int


@pytest.fixture(autouse=True)
def _unchecked() -> None:
    check_langgraph.cache_clear()


def test_what_is_installed_is_fine() -> None:
    check_langgraph()


def test_missing_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(BranchSpec, "_aroute")
    builder = StateGraph(State)
    with pytest.raises(LangGraphVersionError, match=r"langgraph.graph._branch:BranchSpec._aroute is missing"):
        parallelize_graph(builder)
    assert type(builder) is StateGraph
    assert issubclass(LangGraphVersionError, DSPyParallelError)


INSTALLED = tuple(map(int, version("langgraph").split(".")[:2]))


@pytest.mark.parametrize(
    "target",
    [
        *(name for name, since in langgraph_version._NAMES.items() if since <= INSTALLED),
        *sorted(langgraph_version._patched()),
    ],
)
def test_each_name_is_missed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every object, or every Runnable, has something of that name."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    holder: Any = import_module(module)
    monkeypatch.delattr(getattr(holder, owner) if owner else holder, name)
    with pytest.raises(LangGraphVersionError, match=rf"{target}\b.* is missing there"):
        check_langgraph()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("langgraph._internal._runnable:RunnableSeq", "steps"),
        ("langgraph.graph.state:StateGraph", "branches"),
        ("langgraph.prebuilt:ToolNode", "afunc"),
    ],
)
def test_missing_attribute_of_an_instance(target: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, path = target.partition(":")
    owner: Any = getattr(pytest.importorskip(module, exc_type=ImportError), path)
    init: Any = vars(owner)["__init__"]

    def renamed(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        vars(self)[f"{name}_"] = vars(self).pop(name)

    monkeypatch.setattr(owner, "__init__", renamed)
    with pytest.raises(LangGraphVersionError, match=re.escape(f"{target}().{name} is missing")):
        check_langgraph()


def test_missing_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_runnable.RunnableCallable, "__init__", lambda self, func, *, name, trace, explode_args: None)
    with pytest.raises(LangGraphVersionError, match=r"RunnableCallable.__init__\(afunc\),.* is missing"):
        async_node(len)


# What takes longest are the imports: each attempt is a fork, with what is sabotaged imported already.
_AT_IMPORT = """
import importlib, importlib.metadata, os
import dspy, dspy_parallel, langgraph.graph, langgraph.pregel._read
version = importlib.metadata.version

def changed():
    del langgraph.pregel._read.DEFAULT_BOUND

def changed_elsewhere():
    del langgraph.graph.START

def absent():
    def absent(name):
        if name != "langgraph":
            return version(name)
        raise importlib.metadata.PackageNotFoundError(name)

    importlib.metadata.version = absent

for package in ("dspy_parallel.langgraph", "dspy_parallel.doctor.graph_nodes"):
    for sabotage in (changed, changed_elsewhere, absent):
        if (child := os.fork()) == 0:
            sabotage()
            try:
                importlib.import_module(package)
            except Exception as exc:
                print(type(exc).__name__, exc, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_error_at_import() -> None:
    """What the package itself imports from LangGraph, too, is missed in so many words."""
    changed = "LangGraphVersionError This version of dspy_parallel cannot convert graphs of LangGraph "
    absent = "ModuleNotFoundError dspy_parallel.langgraph needs LangGraph, which is not installed: pip install"
    told = run_child(_AT_IMPORT, python=PRELOADED).out.splitlines()
    assert len(told) == 6
    for line, expected in zip(told, [changed, changed, absent] * 2, strict=True):
        assert line.startswith(expected), line
