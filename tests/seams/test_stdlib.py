"""time.sleep and subprocesses."""

# ruff: noqa: B023 - the functions are called before the loop variable changes

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from dspy_parallel import run
from dspy_parallel.errors import ThreadRequiredError
from tests.seams.programs import PATIENCE, alone, same_as_sync, together

ENGINES = ["loop", "auto", "thread"]


@pytest.mark.parametrize("engine", ENGINES)
def test_sleeping_programs_sleep_at_the_same_time(engine: str) -> None:
    awake: list[int] = []

    def program(n: int) -> Any:
        awake.append(n)
        while len(awake) < 20:  # until all have begun, which they only can if sleeping lets them
            time.sleep(0.001)
        return n

    assert together(program, 20, engine=engine) == list(range(20))


@pytest.mark.parametrize("engine", ["loop", "thread"])
@pytest.mark.parametrize(
    "args", [(-1,), ("1",), (float("nan"),), (float("inf"),), (1e30,), (), (1, 2), (None,)], ids=repr
)
def test_bad_arguments_of_sleep(args: tuple[Any, ...], engine: str) -> None:
    assert same_as_sync(lambda: time.sleep(*args), engine=engine)[0] is not str


def test_good_arguments_of_sleep() -> None:
    class Index:
        def __index__(self) -> int:
            return 0

    for argument in (0, 0.0, -0.0, 0.001, True, False, Index()):
        began = time.monotonic()
        assert same_as_sync(lambda: time.sleep(argument), engine="loop") == ("value", None)  # type: ignore[arg-type]
        assert time.monotonic() - began >= float(argument) if not isinstance(argument, Index) else True


def test_a_sleep_can_be_cancelled() -> None:
    async def main() -> None:
        task = asyncio.create_task(run(time.sleep, 1000, engine="loop"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)

    asyncio.run(main())


WAIT = "import sys; print('up', flush=True); sys.stdin.read(); print('down')"


def _child(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_waiting_for_subprocesses_blocks_nobody() -> None:
    """Each process ends only when the one after it has been started."""
    children: dict[int, subprocess.Popen[str]] = {}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def program(n: int) -> Any:
        children[n] = subprocess.Popen(_child(WAIT), **pipes)
        if n == 2:
            for child in children.values():
                child.stdin.close()  # type: ignore[union-attr]
        child = children[n]
        status = child.wait()
        output = child.stdout.read()  # type: ignore[union-attr]
        child.stdout.close()  # type: ignore[union-attr]
        return status, output

    assert together(program, 3) == [(0, "up\ndown\n")] * 3


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_subprocess_run(engine: str) -> None:
    def result(code: str, **options: Any) -> Any:
        try:
            done = subprocess.run(_child(code), capture_output=True, text=True, **options)
        except subprocess.CalledProcessError as exc:
            return type(exc), str(exc), exc.stdout, exc.stderr
        except subprocess.TimeoutExpired as exc:
            if exc.stdout is None:  # the machine is too slow for this child to have begun
                return result(code, timeout=2 * options["timeout"])
            return type(exc), str(exc).partition(" timed out after ")[0], exc.stdout, exc.stderr
        return done.returncode, done.stdout, done.stderr

    for code, options in [
        ("print('out')", {}),
        ("import sys; print(sys.stdin.read(), file=sys.stderr)", {"input": "in"}),
        ("raise SystemExit(3)", {"check": True}),
        ("import time; print('begun', flush=True); time.sleep(60)", {"timeout": 1.0}),
    ]:
        assert same_as_sync(lambda: result(code, **options), engine=engine)[0] == "value"
    same_as_sync(lambda: subprocess.run(["/no/such/program"], check=False), engine=engine)
    same_as_sync(lambda: subprocess.check_output(_child("print(1)")), engine=engine)


def test_a_subprocess_needs_a_thread() -> None:
    child = subprocess.Popen(_child("pass"))
    with pytest.raises(ThreadRequiredError, match="waits for a subprocess"):
        alone(child.wait, engine="loop")
    assert child.wait() == 0
