"""LM calls: many in flight on one thread, with the results, exceptions, history and usage of sync calls."""

# ruff: noqa: B023 - the functions are called before the loop variable changes

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import run, run_sync
from dspy_parallel.errors import ThreadRequiredError
from dspy_parallel.testing import LMServer
from tests.seams.programs import VERSION, Meeting, alone, outcome, together

ROOT = Path(__file__).resolve().parents[2]
ENGINES = [pytest.param({}, id="default")]
if VERSION >= (3, 4):
    ENGINES += [pytest.param({"engine": "litellm"}, id="litellm"), pytest.param({"engine": "lm15"}, id="lm15")]

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def an_lm(server: LMServer, **options: Any) -> dspy.LM:
    return dspy.LM("openai/test-model", **{**server.lm_kwargs(), "cache": False, **options})


@pytest.fixture(scope="module", autouse=True)
def warm(shared_server: LMServer) -> None:
    """First imports and first connections take long, and are not what is tested."""
    for parameters in ENGINES:
        an_lm(shared_server, **parameters.values[0])("hello")


def _reply(text: str) -> Any:
    message = types.SimpleNamespace(content=text, tool_calls=None)
    choice = types.SimpleNamespace(message=message, finish_reason="stop", logprobs=None)
    return types.SimpleNamespace(choices=[choice], usage={"total_tokens": 1}, model="mine", _hidden_params={})


@pytest.mark.parametrize("options", ENGINES)
@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_lm_calls_overlap(server: LMServer, options: dict[str, Any], engine: str) -> None:
    server.configure(gate=5)
    lm = an_lm(server, **options)

    def program(n: int) -> Any:
        return lm(f"question {n}")

    bridged = together(program, 5, engine=engine)
    assert server.stats().peak_in_flight == 5
    assert bridged == [lm(f"question {n}") for n in range(5)]
    assert len(lm.history) == 10


@pytest.mark.parametrize("options", ENGINES)
def test_retries_and_errors_are_those_of_the_sync_call(server: LMServer, options: dict[str, Any]) -> None:
    for faults, retries in (({"kind": "503", "times": 1, "retry_after": 0}, 2), ("401", 0), ("context_length", 0)):
        outcomes = []
        for call in (lambda lm: lm("hello"), lambda lm: alone(lambda: lm("hello"), engine="loop")):
            server.restore()
            server.configure(faults=[faults])
            lm = an_lm(server, num_retries=retries, **options)
            outcomes.append((outcome(lambda: call(lm)), server.stats().requests))
        (first, requests), (second, as_many) = outcomes
        assert first[0] == second[0], (first, second)
        assert requests == as_many
        if first[0] == "value":
            assert first == second


class ForwardOnly(dspy.BaseLM):
    """An LM whose provider has only a sync client."""

    meeting: Meeting | None = None

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        if self.meeting is not None:
            self.meeting.wait()
        return _reply(f"sync in {threading.current_thread().name}")


class Both(ForwardOnly):
    """An LM with both sides."""

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return _reply(f"async in {threading.current_thread().name}")


class NewForward(Both):
    """Its author replaced the sync side and knows nothing of the other."""

    def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return _reply("replaced")


class NewCall(Both):
    """Its author replaced the call itself."""

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return ["replaced " + text for text in super().__call__(prompt, messages=messages, **kwargs)]


class NewBoth(NewCall):
    """Both sides again."""

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return ["async replaced"]


class CallsBack(Both):
    """An async side that is a call of the sync one."""

    def __call__(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return [f"own in {threading.current_thread().name}"]

    async def acall(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        return self(prompt, messages=messages, **kwargs)


def test_an_lm_with_only_forward_runs_in_threads() -> None:
    lm = ForwardOnly("mine")
    lm.meeting = Meeting(3)
    replies = together(lambda: lm("hello"))
    assert all("dspy-parallel" in reply for (reply,) in replies)
    assert len(set(map(str, replies))) == 3
    with pytest.raises(ThreadRequiredError, match="ForwardOnly has no async counterpart"):
        alone(lambda: lm("hello"), engine="loop")


def test_the_async_side_is_used_where_it_is_the_same_call() -> None:
    lm = Both("mine")
    assert alone(lambda: lm("hello"), engine="loop") == ["async in MainThread"]
    assert lm("hello") == ["sync in MainThread"]


@pytest.mark.parametrize(
    ("cls", "reply"),
    [
        (NewForward, "replaced"),
        (NewCall, "replaced sync in dspy-parallel"),
        (NewBoth, "async replaced"),
        (CallsBack, "own in dspy-parallel"),
    ],
)
def test_overrides_are_heeded(cls: Any, reply: str) -> None:
    lm = cls("mine")
    (text,) = alone(lambda: lm("hello"))
    assert text.startswith(reply)


def test_attributes_of_the_instance_are_heeded() -> None:
    lm = Both("mine")
    lm.forward = lambda prompt=None, messages=None, **kwargs: _reply("patched")  # type: ignore[method-assign]
    assert lm("hello") == ["patched"]
    assert alone(lambda: lm("hello")) == ["patched"]


def test_base_exceptions_pass_through() -> None:
    class Stop(BaseException):
        pass

    class Failing(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise Stop

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            raise Stop

    async def main() -> None:
        with pytest.raises(Stop):
            await run(lambda: Failing("m")("hello"), engine="loop")

    asyncio.run(main())


@pytest.mark.skipif(VERSION < (3, 4), reason="engine objects came with DSPy 3.4")
def test_an_engine_object_without_async_side_runs_in_threads() -> None:
    from dspy import lm15

    meeting = Meeting(3)

    class Engine:
        def complete(self, request: Any) -> Any:
            meeting.wait()
            return _canonical(lm15, f"sync in {threading.current_thread().name}")

    class AsyncEngine:
        async def complete(self, request: Any) -> Any:
            return _canonical(lm15, "async")

    lm = dspy.LM("mine/model", engine=Engine(), cache=False)
    replies = together(lambda: lm("hello"))
    assert all("sync in dspy-parallel" in str(reply) for reply in replies)
    with pytest.raises(ThreadRequiredError, match="no async counterpart"):
        alone(lambda: lm("hello"), engine="loop")
    pair = dspy.LM("mine/model", engine=Engine(), async_engine=AsyncEngine(), cache=False)
    assert alone(lambda: pair("hello"), engine="loop") == ["async"]


def _canonical(lm15: Any, text: str) -> Any:
    message = lm15.Message(role="assistant", parts=(lm15.TextPart(text=text),))
    return lm15.Response(id="r", model="model", message=message, finish_reason="stop", usage=lm15.Usage())


@pytest.mark.parametrize("engine", ["loop", "auto"])
def test_an_lm_that_calls_an_lm(server: LMServer, engine: str) -> None:
    inner = an_lm(server, cache=True)

    class Router(dspy.BaseLM):
        def forward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return _reply(inner(prompt)[0])

        async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
            return _reply(inner(prompt)[0])  # sync, in a coroutine: still in the bridge

    server.configure(gate=3)
    replies = together(lambda n: Router("router")(f"question {n}"), 3, engine=engine)
    assert replies == [inner(f"question {n}") for n in range(3)]


def test_a_callback_that_calls_the_same_lm(server: LMServer) -> None:
    from dspy.utils.callback import BaseCallback

    lm = an_lm(server)
    seen = []

    class Again(BaseCallback):
        def on_lm_end(self, call_id: str, outputs: Any, exception: Any = None) -> None:
            if not seen:
                seen.append("first")
                seen.append(lm("from the callback"))

    def program() -> Any:
        seen.clear()
        with dspy.context(callbacks=[Again()]):
            return lm("hello"), list(seen)

    assert alone(program, engine="loop") == program()


@pytest.mark.timeout(300)  # seconds on a quiet machine, minutes on a busy one
def test_the_first_import_of_litellm_is_not_on_the_loop() -> None:
    if VERSION < (3, 3):
        pytest.skip("older DSPy imports LiteLLM when it is imported itself")
    program = """
    import asyncio, sys, threading
    import dspy
    from dspy_parallel import run
    from dspy_parallel.testing import LMServer
    assert "litellm" not in sys.modules
    where = []
    class Watch:
        def find_spec(self, name, path=None, target=None):
            if name.startswith("litellm."):
                where.append(threading.current_thread())
    sys.meta_path.insert(0, Watch())
    options = {"engine": "litellm"} if dspy.__version__ >= "3.4" else {}
    with LMServer() as server:
        lm = dspy.LM("openai/test-model", cache=False, **server.lm_kwargs(), **options)
        async def main():
            await asyncio.gather(*(run(lm, f"hello {n}", engine="loop") for n in range(3)))
        asyncio.run(main())
    # LiteLLM itself imports a provider's settings when it is first asked for them: a handful of small modules.
    assert where.count(threading.main_thread()) * 10 < len(where), where
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(program)], cwd=ROOT, check=True, timeout=280)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_lm_on_many_loops(server: LMServer) -> None:
    """Connection pools belong to an event loop; an LM outlives many, in any thread."""
    lm = dspy.LM("openai/test-model", cache=False, **server.lm_kwargs())
    on_a_fresh_loop = lambda _: asyncio.run(run(lm, "hello", engine="loop"))  # noqa: E731
    replies = [lm("hello"), *map(on_a_fresh_loop, range(3))]
    with ThreadPoolExecutor(3) as pool:
        replies += pool.map(on_a_fresh_loop, range(3))
    replies += [run_sync(lm, "hello", engine="loop") for _ in range(3)]
    assert replies == [replies[0]] * 10
