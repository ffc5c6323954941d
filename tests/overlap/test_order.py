"""What waits for an LM is in order with what others change and read; no call is made twice for a caught exception."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import async_module
from tests.modules.observing import Describer
from tests.overlap.generated.running import load
from tests.overlap.lms import TimedLM, always, uneven
from tests.overlap.observing import assert_same, observe
from tests.overlap.programs_of_order import HEAD, PROGRAMS

each_program = pytest.mark.parametrize("name", PROGRAMS)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.startswith("program_"):
            del sys.modules[name]


def first_is_quick(conversation: Any) -> float:
    """So that what follows from the first reply is found out while the others are in flight."""
    return 1.0 if "word" in conversation.last_user else 4.0


def seen(name: str, directory: Path, way: Any, latency: Any = uneven) -> Any:
    module = load(HEAD + PROGRAMS[name], directory)
    effects = lambda program: (module.LOG, module.COUNTER, module.COUNTING.n, program.n, program.state)  # noqa: E731
    return observe(module.Program, {"x": "word"}, TimedLM(latency=latency), way, effects=effects)


_expected: dict[str, Any] = {}


def in_sequence(name: str, directory: Path) -> Any:
    if name not in _expected:
        _expected[name] = seen(name, directory, "sequential")
        assert "exception" not in _expected[name].everything, _expected[name].everything["exception"]
    return _expected[name]


@each_program
@pytest.mark.parametrize("latency", [uneven, first_is_quick, always(1.0)])
def test_same_as_in_sequence(name: str, directory: Path, latency: Any) -> None:
    """Output, trace, usage, histories, callbacks, LM calls and effects; not one call too many, even if it fails."""
    expected, found = in_sequence(name, directory), seen(name, directory, "overlapped", latency)
    assert_same(expected, found)
    assert found.requests == expected.requests


@each_program
def test_same_from_a_thread(name: str, directory: Path) -> None:
    """The program in a worker thread, the scout on the loop, both at work at once."""
    expected = in_sequence(name, directory)
    module, lm = load(HEAD + PROGRAMS[name], directory), TimedLM(latency=always(0.001))
    program = async_module(types.new_class("Program", (module.Program,)), engine="thread", overlap=True)()
    with dspy.context(lm=lm, trace=[]):
        output = program(x="word")
    assert output.toDict() == expected.value.toDict()
    assert sorted(lm.requests) == expected.requests
    effects = module.LOG, module.COUNTER, module.COUNTING.n, program.n, program.state
    assert Describer()(effects) == expected.everything["effects"]
