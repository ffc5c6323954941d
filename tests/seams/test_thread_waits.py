"""Threads that programs start and wait for: executors, dspy.Parallel, Module.batch."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import run
from dspy_parallel.errors import ThreadRequiredError
from dspy_parallel.testing import LMServer
from tests.seams.programs import (
    PATIENCE,
    VERSION,
    Blocker,
    Meeting,
    alone,
    outcome,
    same_as_sync,
    together,
    with_engine,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

ENGINES = ["loop", "auto", "thread"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_executor_in_forward(engine: str) -> None:
    meeting = Meeting(6)

    def work(n: int) -> int:
        meeting.wait()
        return n * n

    def program() -> list[int]:
        with ThreadPoolExecutor(2) as executor:
            return list(executor.map(work, range(2)))

    assert together(program, 3, engine=engine) == [[0, 1]] * 3


@pytest.mark.parametrize("engine", ENGINES)
def test_futures_in_any_order(engine: str) -> None:
    def program() -> Any:
        gates = [threading.Event() for _ in range(3)]
        with ThreadPoolExecutor(3) as executor:
            futures = [
                executor.submit(lambda gate, n: gate.wait(PATIENCE) and n, gate, n) for n, gate in enumerate(gates)
            ]
            gates[2].set()
            order = []
            for future in as_completed(futures, timeout=PATIENCE):
                order.append(future.result())
                if gates[0].is_set():
                    gates[1].set()
                gates[0].set()
            done, rest = wait(futures, timeout=PATIENCE, return_when=FIRST_COMPLETED)
            return order, len(done), len(rest)

    assert alone(program, engine=engine) == program() == ([2, 0, 1], 3, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_waiting_for_a_future_leaves_the_loop_alone(engine: str) -> None:
    """A task of the same loop completes the future that the program waits for."""

    async def main() -> Any:
        future: Future[str] = Future()

        async def complete() -> None:
            await asyncio.sleep(0)
            future.set_result("from the loop")

        task = asyncio.create_task(complete())
        result = await run(lambda: (future.result(), future.exception()), engine=engine)  # type: ignore[arg-type]
        await task
        return result

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == ("from the loop", None)


@pytest.mark.parametrize("engine", ENGINES)
def test_timeouts_and_errors_of_futures(engine: str) -> None:
    never: Future[int] = Future()
    failed: Future[int] = Future()
    failed.set_exception(KeyError("x"))
    cancelled: Future[int] = Future()
    cancelled.cancel()
    for call in (
        lambda: never.result(timeout=0.01),
        lambda: never.result(0),
        lambda: never.result(timeout=-1),
        lambda: never.exception(timeout=0.01),
        lambda: next(as_completed([never], timeout=0.01)),
        lambda: wait([never], timeout=0.01).not_done == {never},
        lambda: failed.result(),
        lambda: str(failed.exception()),
        lambda: cancelled.result(),
        lambda: never.result("soon"),  # type: ignore[arg-type]
    ):
        same_as_sync(call, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_asking_again_and_again_leaves_nothing_at_the_future(engine: str) -> None:
    """Of others, who wait for it, too, nothing is taken away."""
    future: Future[int] = Future()
    told: list[Any] = []
    future.add_done_callback(told.append)

    def program() -> int:
        for ask in (future.result, future.exception, lambda timeout: wait([future], timeout)):
            for _ in range(3):
                with contextlib.suppress(concurrent.futures.TimeoutError):
                    ask(timeout=0.001)
        assert len(future._done_callbacks) == 1  # type: ignore[attr-defined]
        assert not future._waiters  # type: ignore[attr-defined]
        future.set_result(1)
        return future.result(timeout=PATIENCE)

    assert alone(program, engine=engine) == 1
    assert told == [future]


def test_whoever_has_been_told_takes_nothing_from_those_who_are_still_to_be() -> None:
    """A future calls its callbacks one after the other, while the first ones already go on."""
    future: Future[int] = Future()
    told: list[Any] = []

    async def main() -> None:
        program = asyncio.create_task(run(future.result, engine="loop"))
        while not future._done_callbacks:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        went_on = threading.Event()
        future.add_done_callback(lambda future: told.append(went_on.wait(PATIENCE)))
        future.add_done_callback(told.append)
        thread = threading.Thread(target=future.set_result, args=[1])
        thread.start()
        assert await program == 1
        went_on.set()
        await asyncio.to_thread(thread.join)

    asyncio.run(main())
    assert told == [True, future]


def test_a_wait_for_a_future_can_be_cancelled() -> None:
    """And leaves the future as it was: its result belongs to others, too."""

    async def main() -> None:
        future: Future[int] = Future()
        task = asyncio.create_task(run(future.result, engine="loop"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not future.cancelled()
        future.set_result(1)

    asyncio.run(main())


class Ask(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        if question == "bad":
            raise ValueError("a bad question")
        return self.ask(question=question)


class Fan(dspy.Module):
    """Asks several questions in DSPy's threads."""

    def __init__(self, how: str, questions: list[str]) -> None:
        super().__init__()
        self.ask = Ask()
        self.how = how
        self.questions = questions

    def forward(self) -> Any:
        examples = [dspy.Example(question=question).with_inputs("question") for question in self.questions]
        if self.how == "batch":
            results = self.ask.batch(examples, num_threads=2, disable_progress_bar=True, max_errors=5)
        else:
            parallel = dspy.Parallel(num_threads=2, disable_progress_bar=True, max_errors=5)
            results = parallel([(self.ask, example) for example in examples])
        return dspy.Prediction(answers=[result and result.answer for result in results])


@pytest.mark.parametrize("how", ["Parallel", "batch"])
@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_parallel_in_forward(server: LMServer, how: str, engine: str) -> None:
    lm = dspy.LM("openai/test-model", **server.lm_kwargs(), cache=False)
    questions = ["one", "bad", "two"]
    # DSPy 3.0 loses every item of a Parallel in a module that tracks usage, with or without the bridge.
    with dspy.context(lm=lm, track_usage=VERSION >= (3, 1)):
        program = Fan(how, questions)
        plain = program()
        server.configure(gate=6)
        bridged = together(lambda: Fan(how, questions)(), 3, engine=engine)
    assert server.stats().peak_in_flight == 6
    for prediction in bridged:
        assert prediction.answers == plain.answers
        assert prediction.get_lm_usage() == plain.get_lm_usage()
    assert plain.answers[1] is None


def test_parallel_in_forward_needs_a_thread() -> None:
    with dspy.context(lm=DummyLM([{"answer": "a"}] * 4)):
        with pytest.raises(ThreadRequiredError, match=r"dspy\.Parallel waits for its threads"):
            alone(lambda: Fan("Parallel", ["one", "two"])(), engine="loop")


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_parallel_in_parallel(engine: str) -> None:
    def program() -> Any:
        with dspy.context(lm=DummyLM([{"answer": "a"}] * 20)):
            examples = [dspy.Example().with_inputs()] * 2
            results = dspy.Parallel(num_threads=2, disable_progress_bar=True)(
                [(Fan("Parallel", ["x", "y"]), e) for e in examples]
            )
            return [result.answers for result in results]

    assert alone(program, engine=engine) == program() == [["a", "a"]] * 2


def helpers() -> int:
    """Threads that wait for other threads to end."""
    return sum(thread.name == "dspy-parallel-join" for thread in threading.enumerate())


def test_a_program_that_joins_can_be_cancelled() -> None:
    """At once, though the thread goes on."""
    blocker = Blocker()
    thread = threading.Thread(target=blocker.block)

    async def main() -> None:
        task = asyncio.create_task(run(lambda: thread.join(), engine="loop"))
        await asyncio.to_thread(blocker.entered.wait, PATIENCE)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    thread.start()
    asyncio.run(main())
    assert thread.is_alive()
    blocker.leave.set()
    thread.join()


def test_a_bar_that_another_executor_has_cleared() -> None:
    """DSPy clears tqdm's bars when an executor starts; tqdm takes its own out of the set that it has put it into."""
    import tqdm

    for begin in (tqdm.tqdm, tqdm.std.tqdm):
        bar = begin.__new__(begin)
        begin._instances.clear()
        bar.__init__(total=3, disable=True)
        assert bar not in begin._instances
    with tqdm.tqdm(total=1, file=io.StringIO()) as shown:
        assert shown in tqdm.tqdm._instances


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_a_crowd_of_executors(engine: str) -> None:
    """The first bars of a process, all at the same time."""

    def program() -> Any:
        examples = [dspy.Example(question="q").with_inputs("question")] * 2
        return [result.answer for result in Ask().batch(examples, num_threads=2, disable_progress_bar=True)]

    with dspy.context(lm=DummyLM([{"answer": "a"}] * 100)):
        assert together(program, 16, engine=engine) == [["a", "a"]] * 16


@pytest.mark.parametrize("engine", ENGINES)
def test_join_is_woken_by_the_threads_end(engine: str) -> None:
    """Which a task of the same loop brings about; who joins often, with timeouts, leaves one helper only."""
    blocker = Blocker()
    before = helpers()

    def program() -> Any:
        thread = threading.Thread(target=blocker.leave.wait, args=(PATIENCE,))
        thread.start()
        for _ in range(5):
            thread.join(0.001)
        waited, more = thread.is_alive(), helpers() - before
        blocker.entered.set()
        thread.join()
        refused = outcome(threading.Thread().join)[0], outcome(threading.current_thread().join)[0]
        return waited, more <= 1, thread.is_alive(), *refused

    async def main() -> Any:
        relief = asyncio.create_task(blocker.relieve())
        result = await with_engine(engine, program)
        await relief
        return result

    assert asyncio.run(asyncio.wait_for(main(), PATIENCE)) == (True, True, False, RuntimeError, RuntimeError)
