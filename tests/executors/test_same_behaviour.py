"""dspy.Parallel, Module.batch and Evaluate on the loop against the same in DSPy's threads."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import threading
from typing import Any

import dspy
import pytest
from dspy.utils.parallelizer import ParallelExecutor

import dspy_parallel
from dspy_parallel import await_
from dspy_parallel.testing import LMServer
from tests.batch.programs import Ask, StubLM
from tests.seams.programs import VERSION
from tests.support.children import PRELOADED
from tests.support.gates import Gate

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets that LiteLLM's client leaves open
)


@pytest.fixture
def lm() -> Any:
    stub = StubLM()
    with dspy.context(lm=stub):
        yield stub


def examples(count: int, bad: tuple[int, ...] = ()) -> list[dspy.Example]:
    names = [f"bad {n}" if n in bad else f"q{n}" for n in range(count)]
    return [dspy.Example(question=name, answer=f"{name}!").with_inputs("question") for name in names]


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(prediction.answer == example.answer) if example.question != "q1" else 0.25


def outcome(call: Any) -> Any:
    try:
        return call()
    except Exception as exc:
        return type(exc), str(exc)


def in_dspy(caplog: pytest.LogCaptureFixture) -> list[str]:
    logged = sorted(record.message for record in caplog.records if record.name.startswith("dspy."))
    caplog.clear()
    return logged


@pytest.fixture
def caplog_of_dspy(caplog: pytest.LogCaptureFixture) -> Any:
    logger = logging.getLogger("dspy")
    propagated, logger.propagate = logger.propagate, True
    yield caplog
    logger.propagate = propagated


@pytest.mark.parametrize("threads", [1, 4, 50])
def test_evaluate(lm: StubLM, on_loop: Any, threads: int, caplog_of_dspy: Any) -> None:
    evaluate = dspy.Evaluate(devset=examples(40, bad=(7,)), metric=exact, num_threads=threads, failure_score=0.5)
    plain, plain_log = evaluate(Ask()), in_dspy(caplog_of_dspy)
    ours, our_log = on_loop(lambda: evaluate(Ask())), in_dspy(caplog_of_dspy)
    assert ours.score == plain.score
    assert [(dict(e), dict(p), s) for e, p, s in ours.results] == [(dict(e), dict(p), s) for e, p, s in plain.results]
    assert our_log == plain_log
    assert any("bad 7" in line for line in plain_log)


@pytest.mark.parametrize("max_errors", [1, 3, 4])
@pytest.mark.parametrize("how", ["evaluate", "batch", "parallel"])
def test_error_limits(lm: StubLM, on_loop: Any, how: str, max_errors: int) -> None:
    rows = examples(12, bad=(2, 5, 9))

    def call() -> Any:
        if how == "evaluate":
            result = dspy.Evaluate(devset=rows, metric=exact, num_threads=4, max_errors=max_errors)(Ask())
            return result.score, [score for *_, score in result.results]
        if how == "batch":
            results, failed, errors = Ask().batch(
                rows, num_threads=4, max_errors=max_errors, return_failed_examples=True, disable_progress_bar=True
            )
        else:
            parallel = dspy.Parallel(
                num_threads=4, max_errors=max_errors, return_failed_examples=True, disable_progress_bar=True
            )
            results, failed, errors = parallel([(Ask(), row) for row in rows])
        return [r and r.answer for r in results], sorted(f.question for f in failed), sorted(map(str, errors))

    plain = outcome(call)
    assert on_loop(lambda: outcome(call)) == plain
    assert ("cancelled due to errors" in str(plain)) is (max_errors <= 3)


def test_the_progress_bar(
    lm: StubLM, on_loop: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line for each example, with the running score; the last one is the same."""
    monkeypatch.setattr("tqdm.std.time", lambda: 0.0)  # tqdm shows one more line whenever a tenth of a second is over
    evaluate = dspy.Evaluate(devset=examples(20), metric=exact, num_threads=8, display_progress=True)
    bars = []
    for run in (lambda call: call(), on_loop):
        run(lambda: evaluate(Ask()))
        shown = capfd.readouterr().out.replace("\n", "\r").split("\r")
        bars.append([re.sub(r"\[.*", "", line).rstrip() for line in shown if line.strip()])
    assert bars[0][-1] == bars[1][-1] == "Average Metric: 19.25 / 20 (96.2%): 100%|██████████| 20/20"
    assert len(bars[0]) == len(bars[1]) > 20


def test_num_threads_is_the_number_in_flight_and_may_be_a_thousand(on_loop: Any) -> None:
    """A rendezvous: nobody is answered before all have asked. No threads wait meanwhile."""
    lm = StubLM()
    seen: list[int] = []
    stub_count, before = lm._count, threading.active_count()

    def count(change: int) -> None:
        stub_count(change)
        if lm.in_flight == 1000:
            seen.append(threading.active_count() - before)
            lm.released.set()

    lm._count = count  # type: ignore[method-assign]
    rows = [dspy.Example(question=f"hold {n}").with_inputs("question") for n in range(1000)]
    with dspy.context(lm=lm):
        # engine="loop": with "auto", a busy machine may look like a program that blocks, which goes to threads.
        results = on_loop(lambda: Ask().batch(rows, num_threads=1000, disable_progress_bar=True), engine="loop")
    assert [r.answer for r in results] == [f"hold {n}!" for n in range(1000)]
    assert lm.peak == 1000
    assert seen[0] < 200  # those of DSPy's and asyncio's own pools


def test_as_many_blocking_programs_as_asked_for_from_the_first_run_on(on_loop: Any) -> None:
    together = threading.Barrier(200, timeout=100)

    class Meets(dspy.Module):
        def forward(self, question: str) -> Any:
            return dspy.Prediction(answer=str(together.wait()))

    evaluate = dspy.Evaluate(devset=examples(200), metric=lambda *_: 1.0, num_threads=200)
    results = on_loop(lambda: evaluate(Meets())).results
    assert sorted(int(prediction.answer) for _, prediction, _ in results) == list(range(200))


def test_a_straggler_is_run_once_more(on_loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in threads: after the timeout, when few are left; the first that ends counts."""

    class Clock:
        """Time passes when all but the straggler are done."""

        now = 1.0

        def time(self) -> float:
            return self.now

    def call() -> Any:
        starts: list[int] = []
        begun, stuck, clock = threading.Event(), Gate(), Clock()
        monkeypatch.setattr("dspy.utils.parallelizer.time", clock)

        class Executor(ParallelExecutor):
            def _update_progress(self, pbar: Any, done: int, total: int) -> None:
                if done == total - 1:
                    assert begun.wait(100)
                    clock.now += 1.0

        def program(n: int) -> int:
            starts.append(n)
            if n == 3 and starts.count(3) == 1:
                begun.set()
                await_(stuck.passed()) if dspy_parallel.in_bridge() else stuck.wait(100)
            return n * n

        executor = Executor(num_threads=4, timeout=1, straggler_limit=2, disable_progress_bar=True)
        try:
            return executor.execute(program, list(range(8))), sorted(starts)
        finally:
            stuck.set()

    wanted = [n * n for n in range(8)], [0, 1, 2, 3, 3, 4, 5, 6, 7]
    assert call() == wanted
    assert on_loop(call) == wanted


def test_what_is_left_behind_is_cancelled(on_loop: Any) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    async def until_begun() -> None:
        while not begun.is_set():
            await asyncio.sleep(0)

    def program(n: int) -> int:
        if n == 0:
            await_(until_begun())
            raise ValueError("the limit is one")
        begun.set()
        try:
            await_(asyncio.Event().wait())
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return n

    executor = ParallelExecutor(num_threads=2, max_errors=1, disable_progress_bar=True)
    with pytest.raises(Exception, match="cancelled due to errors"):
        on_loop(lambda: executor.execute(program, [1, 0]))
    assert cancelled.wait(100)


def test_settings_trace_and_usage_are_apart_as_in_threads(lm: StubLM, on_loop: Any) -> None:
    """Overrides of the caller are seen; what an item overrides is not seen by others; usage is each item's own."""

    class Marked(Ask):
        def forward(self, question: str) -> Any:
            seen = dspy.settings.mark
            with dspy.context(mark=question):
                answer = self.ask(question=question).answer
                inner = dspy.settings.mark
            return dspy.Prediction(answer=answer, seen=seen, inner=inner, after=dspy.settings.mark)

    def call() -> Any:
        # DSPy 3.0 loses every item of a Parallel under a usage tracker.
        with dspy.context(mark="caller", trace=[], track_usage=VERSION >= (3, 1)):
            results = Marked().batch(examples(20), num_threads=5, disable_progress_bar=True)
            trace = sorted(inputs["question"] for _, inputs, _ in dspy.settings.trace)
            return [(dict(r), r.get_lm_usage()) for r in results], trace, dspy.settings.mark

    plain = call()
    assert on_loop(call) == plain
    assert plain[0][3][0] == {"answer": "q3!", "seen": "caller", "inner": "q3", "after": "caller"}


def test_inside_a_bridged_program_and_nested(lm: StubLM, on_loop: Any) -> None:
    def fan(question: str) -> Any:
        return [r.answer for r in Ask().batch(examples(3), num_threads=3, disable_progress_bar=True)]

    def call() -> Any:
        return dspy.Parallel(num_threads=3, disable_progress_bar=True)([(fan, {"question": "x"})] * 4)

    async def main() -> Any:
        return await asyncio.wait_for(dspy_parallel.run(call), 100)

    wanted = [["q0!", "q1!", "q2!"]] * 4
    assert call() == wanted
    assert on_loop(call) == wanted
    assert on_loop(lambda: asyncio.run(main())) == wanted


def test_over_http(lm_server: LMServer, on_loop: Any) -> None:
    """With DSPy's LM, more in flight than DSPy has threads by default."""
    lm_server.configure(latency=0.02)
    with dspy.context(lm=dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())):
        plain = Ask().batch(examples(30), num_threads=8, disable_progress_bar=True)
        lm_server.configure(gate=30)
        ours = on_loop(lambda: Ask().batch(examples(30), num_threads=30, disable_progress_bar=True))
    assert [r.answer for r in ours] == [r.answer for r in plain]
    assert lm_server.stats().peak_in_flight == 30


def test_the_portals_own_thread_falls_back_to_threads(lm: StubLM, on_loop: Any) -> None:
    """A task of the loop that serves sync callers, outside of any program: waiting there would be for itself."""

    async def outside() -> Any:
        task = asyncio.get_running_loop().create_task(blocking())
        return await task

    async def blocking() -> Any:
        return [r.answer for r in Ask().batch(examples(3), num_threads=2, disable_progress_bar=True)]

    assert on_loop(lambda: dspy_parallel.run_sync(outside)) == ["q0!", "q1!", "q2!"]


def test_uninstalled_it_is_as_before(lm: StubLM, on_loop: Any) -> None:
    import dspy.utils.parallelizer as parallelizer

    dspy_parallel.uninstall()
    stock = parallelizer.ThreadPoolExecutor, parallelizer.wait
    on_loop(lambda: Ask().batch(examples(3), disable_progress_bar=True))
    dspy_parallel.uninstall()
    assert (parallelizer.ThreadPoolExecutor, parallelizer.wait) == stock
    names: set[str] = set()

    def program(n: int) -> int:
        names.add(threading.current_thread().name)
        return n

    assert dspy.Parallel(num_threads=2, disable_progress_bar=True)([(program, (1,)), (program, (2,))]) == [1, 2]
    assert all("ThreadPoolExecutor" in name for name in names)


CTRL_C = """
import asyncio, os, signal, sys, threading
import dspy, dspy_parallel
from dspy.utils.parallelizer import ParallelExecutor
if sys.argv[1] == "loop":
    dspy_parallel.install(executors=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
one_is_done = threading.Event()

async def forever():
    await asyncio.Event().wait()

def program(n):
    if n:
        dspy_parallel.await_(forever()) if dspy_parallel.in_bridge() else executor.cancel_jobs.wait()

class Executor(ParallelExecutor):
    # Called by the main thread as soon as all have been submitted and one is done. Interrupted while it starts its
    # threads, a ThreadPoolExecutor may never end.
    def _update_progress(self, *args):
        one_is_done.set()

def interrupt():
    one_is_done.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
executor = Executor(num_threads=3, disable_progress_bar=True)
try:
    executor.execute(program, list(range(6)))
except KeyboardInterrupt:
    print("KeyboardInterrupt", executor.cancel_jobs.is_set(), signal.getsignal(signal.SIGINT).__name__, flush=True)
"""


@pytest.mark.parametrize("where", ["threads", "loop"])
def test_ctrl_c(where: str) -> None:
    done = subprocess.run(
        [*PRELOADED, "-c", CTRL_C, where],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert done.stdout.split() == ["KeyboardInterrupt", "True", "default_int_handler"], done.stderr
    assert "SIGINT received. Cancelling." in done.stderr
