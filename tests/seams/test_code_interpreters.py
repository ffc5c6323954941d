"""Code interpreters, and the modules that use them, in programs."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel.errors import ThreadRequiredError
from tests.seams.programs import PATIENCE, VERSION, Blocker, alone, outcome, together, with_engine

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
)

_beside_python = Path(sys.executable).parent
DENO = shutil.which("deno", path=f"{_beside_python}{os.pathsep}{os.environ.get('PATH', '')}")
needs_deno = pytest.mark.skipif(DENO is None, reason="PythonInterpreter needs Deno (`pip install deno`)")
needs_tools = pytest.mark.skipif(VERSION < (3, 1), reason="tools in the sandbox came with DSPy 3.1")
needs_local = pytest.mark.skipif(VERSION < (3, 4), reason="LocalInterpreter came with DSPy 3.4")


@pytest.fixture(autouse=True)
def deno_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPI's package puts the program beside Python's, which is not on the path of every test run."""
    monkeypatch.setenv("PATH", f"{_beside_python}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.fixture
def interpreter() -> Iterator[Any]:
    """A sandbox that works here."""
    interpreter = dspy.PythonInterpreter()
    try:
        if str(interpreter("1 + 1")) != "2":
            pytest.skip("the sandbox gives wrong results here")
    except Exception as exc:
        pytest.skip(f"the sandbox does not work here: {str(exc)[:100]}")
    interpreter.shutdown()
    return dspy.PythonInterpreter()


class FakeSandbox(dspy.PythonInterpreter):
    """DSPy's interpreter with its check of threads, but no subprocess."""

    blocker: Blocker | None = None

    def __init__(self) -> None:
        self._owner_thread: int | None = None
        self.running = 0


def _fake_execute(self: Any, code: str, variables: Any = None) -> Any:
    check = getattr(dspy.PythonInterpreter, "_check_thread_ownership", None)
    if check is not None:
        check(self)
    self.running += 1
    assert self.running == 1, "two at the same time"
    if self.blocker is not None:
        self.blocker.block()
    self.running -= 1
    return code, threading.current_thread().name


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSandbox]:
    """Executes nothing; patched below the seams."""
    patch = vars(dspy.PythonInterpreter)["execute"]
    while type(patch.__wrapped__) is type(patch):
        patch = patch.__wrapped__
    monkeypatch.setattr(patch, "__wrapped__", _fake_execute)
    yield FakeSandbox()
    monkeypatch.undo()


def test_the_loop_runs_while_the_sandbox_does(fake: FakeSandbox) -> None:
    fake.blocker = Blocker()

    async def main() -> Any:
        relief = asyncio.create_task(fake.blocker.relieve())  # type: ignore[union-attr]
        result = await with_engine("auto", lambda: fake.execute("code"))
        await relief
        return result

    code, thread = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert code == "code"
    assert thread.startswith("dspy-parallel")


def test_an_interpreter_serves_callers_with_and_without_the_bridge(fake: FakeSandbox) -> None:
    """Its owner is one thread, and a bridged program has none of its own."""
    assert fake.execute("plain")[0] == "plain"
    for _ in range(3):
        assert alone(lambda: fake.execute("auto"))[0] == "auto"
        assert alone(lambda: fake.execute("thread"), engine="thread")[0] == "thread"
        assert fake.execute("plain")[0] == "plain"


def test_programs_that_share_an_interpreter_take_turns(fake: FakeSandbox) -> None:
    results = together(lambda n: fake.execute(f"code {n}"), 8)
    assert [code for code, _ in results] == [f"code {n}" for n in range(8)]


def test_strict_programs_get_no_thread(fake: FakeSandbox) -> None:
    with pytest.raises(ThreadRequiredError, match="interpreter waits for its subprocess"):
        alone(lambda: fake.execute("code"), engine="loop")


@pytest.mark.skipif(VERSION < (3, 1), reason="older interpreters check nothing")
def test_outside_the_bridge_the_owner_is_checked_as_ever(fake: FakeSandbox) -> None:
    if not hasattr(dspy.PythonInterpreter, "_check_thread_ownership"):
        pytest.skip("this version checks nothing")
    fake.execute("mine")
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(outcome(lambda: fake.execute("yours"))))
    thread.start()
    thread.join(PATIENCE)
    assert results[0][0] is RuntimeError


@needs_deno
def test_the_real_sandbox(interpreter: Any) -> None:
    with interpreter as sandbox:
        assert str(sandbox("x = 20\nx + 1")) == "21"
        assert str(alone(lambda: sandbox("x + 2"))) == "22"
        assert [str(value) for value in together(lambda n: sandbox(f"x + {n}"), 4)] == ["20", "21", "22", "23"]
        plain, bridged = outcome(lambda: sandbox("1 / 0")), outcome(lambda: alone(lambda: sandbox("1 / 0")))
        assert plain == bridged
        assert str(sandbox("x")) == "20"


@needs_deno
@needs_tools
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tools_in_the_sandbox_call_lms(interpreter: Any, kind: str) -> None:
    lm = DummyLM([{"answer": "from the LM"}] * 4)

    def ask(question: str) -> str:
        return str(dspy.Predict("question -> answer")(question=question).answer)

    async def aask(question: str) -> str:
        return str((await dspy.Predict("question -> answer").acall(question=question)).answer)

    if kind == "async" and VERSION < (3, 3):
        pytest.skip("async tools in the sandbox came with DSPy 3.3")
    tools = {"ask": aask if kind == "async" else ask}
    with dspy.context(lm=lm), dspy.PythonInterpreter(tools=tools) as sandbox:
        plain = outcome(lambda: sandbox("print(ask(question='q'))"))
        bridged = outcome(lambda: alone(lambda: sandbox("print(ask(question='q'))")))
    assert plain == bridged
    assert "from the LM" in str(plain)


@needs_local
def test_local_interpreter() -> None:
    from dspy.primitives.local_interpreter import LocalInterpreter

    async def later(n: int) -> int:
        await asyncio.sleep(0)
        return n + 1

    def now(n: int) -> int:
        return n + 2

    def program() -> Any:
        with LocalInterpreter(tools={"later": later, "now": now}) as local:
            local.execute("x = later(n=1) + now(n=1)")
            return str(local.execute("print(x)")), outcome(lambda: local.execute("1 / 0"))[0]

    assert alone(program) == alone(program, engine="thread") == program()
    with pytest.raises(ThreadRequiredError, match="interpreter"):
        alone(program, engine="loop")


@needs_local
def test_local_interpreters_run_side_by_side() -> None:
    from dspy.primitives.local_interpreter import LocalInterpreter

    barrier = threading.Barrier(3)

    def meet() -> str:
        barrier.wait(PATIENCE / 2)
        return "met"

    def program() -> Any:
        with LocalInterpreter(tools={"meet": meet}) as local:
            return str(local.execute("print(meet())"))

    results = together(program, 3)
    assert all("met" in result for result in results)
