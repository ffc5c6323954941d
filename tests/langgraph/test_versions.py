"""A LangGraph that is built differently gives one clear error before anything is converted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
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
from dspy_parallel.langgraph import async_node, parallelize_graph, versions
from dspy_parallel.langgraph.versions import check_langgraph
from dspy_parallel.seams import table


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
    "target", [*(name for name, since in versions._NAMES.items() if since <= INSTALLED), *versions._PATCHED]
)
def test_each_name_is_missed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where every object, or every Runnable, has something of that name."""
    module, _, path = target.partition(":")
    owner, _, name = path.rpartition(".")
    holder: Any = import_module(module)
    monkeypatch.delattr(getattr(holder, owner) if owner else holder, name)
    with pytest.raises(LangGraphVersionError, match=rf"{target}\b.* is missing there"):
        check_langgraph()


def test_all_that_is_patched_is_checked() -> None:
    """Or a seam would raise SeamError, perhaps in some later import."""
    patched = {
        seam.target
        for seam in table._table._rows.values()
        if not seam.optional
        and seam.target.startswith(("langgraph.", "langchain_core."))
        and (seam.handler.__module__ if seam.handler else "").startswith("dspy_parallel.langgraph.")
    }
    assert patched == set(versions._PATCHED)


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


_AT_IMPORT = """
import sys
{sabotage}
try:
    import {package}
except Exception as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("package", ["dspy_parallel.langgraph", "dspy_parallel.doctor.graphs"])
@pytest.mark.parametrize(
    ("sabotage", "expected"),
    [
        (
            "import langgraph.pregel._read as read; del read.DEFAULT_BOUND",
            "LangGraphVersionError This version of dspy_parallel cannot convert graphs of LangGraph ",
        ),
        (
            "import langgraph.graph as graph; del graph.START",
            "LangGraphVersionError This version of dspy_parallel cannot convert graphs of LangGraph ",
        ),
        (
            "import importlib.metadata as m\ndef absent(name): raise m.PackageNotFoundError(name)\nm.version = absent",
            "ModuleNotFoundError dspy_parallel.langgraph needs LangGraph, which is not installed: pip install",
        ),
    ],
    ids=["changed", "changed elsewhere", "absent"],
)
def test_error_at_import(sabotage: str, expected: str, package: str) -> None:
    """What the package itself imports from LangGraph, too, is missed in so many words."""
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    code = _AT_IMPORT.format(sabotage=sabotage, package=package)
    done = subprocess.run([sys.executable, "-c", code], timeout=60, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(expected), done.stdout + done.stderr


@pytest.mark.once
def test_dspy_parallel_alone_does_not_import_langgraph() -> None:
    code = "import sys, dspy_parallel; assert 'langgraph' not in sys.modules"
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=environment)
