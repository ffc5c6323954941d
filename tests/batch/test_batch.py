"""Results, order, errors, laziness and limits of batch(), iter_batch() and abatch()."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
import pytest

from dspy_parallel import BatchInputError, UnknownEngineError, abatch, await_, batch, iter_batch, run
from tests.batch.programs import Ask, StubLM, questions

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::DeprecationWarning",
        "ignore::FutureWarning",
        "ignore::pytest.PytestUnraisableExceptionWarning",  # sockets that LiteLLM's client has left open
    ),
    pytest.mark.usefixtures("no_leaks"),
]

quiet = {"progress": False}


async def items(*args: Any, **kwargs: Any) -> list[Any]:
    return [item async for item in abatch(*args, **{**quiet, **kwargs})]


def wanted(count: int) -> list[str]:
    return [f"q{number}!" for number in range(count)]


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
@pytest.mark.parametrize("program", [Ask, lambda: dspy.ChainOfThought("question -> answer")], ids=["plain", "native"])
def test_results_are_those_of_a_loop(lm: StubLM, program: Any, engine: Any) -> None:
    if program is not Ask:
        program = lambda: dspy.Predict("question -> answer")  # noqa: E731 - the stub knows one field
    module = program()
    plain = [module(**example) for example in questions(30)]
    assert batch(module, questions(30), max_in_flight=7, engine=engine, **quiet) == plain
    assert [p.answer for p in plain] == wanted(30)


def test_examples_dicts_tuples_and_any_callable(lm: StubLM) -> None:
    example = dspy.Example(question="q0", answer="no input").with_inputs("question")
    assert batch(Ask(), [example], **quiet)[0].answer == "q0!"
    assert batch(lambda a, b: a + b, [(1, 2), {"a": 3, "b": 4}], **quiet) == [3, 7]

    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    assert batch(double, [(1,), (2,)], **quiet) == [2, 4]


@pytest.mark.parametrize("wrong", ["text", 5, {1: 2}, dspy.Example(question="no inputs set")])
def test_what_is_no_example_is_said_before_the_first_call(lm: StubLM, wrong: Any) -> None:
    with pytest.raises(BatchInputError, match="Example 3 "):
        batch(Ask(), [*questions(3), wrong], **quiet)
    assert lm.asked == []


def test_a_module_with_forward_patched_on_the_instance(lm: StubLM) -> None:
    """Optimizers do that. Only a plain call finds it."""
    program = dspy.Predict("question -> answer")
    program.forward = lambda question: question.upper()
    assert batch(program, questions(2), **quiet) == ["Q0", "Q1"]


def test_no_more_in_flight_than_allowed_and_as_many(lm: StubLM) -> None:
    async def main() -> None:
        rows = [{"question": f"hold {number}"} for number in range(40)]
        task = asyncio.create_task(items(dspy.Predict("question -> answer"), rows, max_in_flight=12))
        while lm.in_flight < 12:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert lm.in_flight == 12
        lm.released.set()
        assert len(await task) == 40

    asyncio.run(main())
    assert lm.peak == 12


@pytest.mark.parametrize("engine", ["auto", "thread"])
def test_as_many_as_asked_for_are_in_flight_from_the_first_run_on(engine: Any) -> None:
    """They all wait for one another, and block."""
    together = threading.Barrier(50)

    def program(n: int) -> int:
        together.wait(60)
        return n

    assert batch(program, [(n,) for n in range(50)], max_in_flight=50, engine=engine, **quiet) == list(range(50))


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_one_at_a_time_runs_in_the_callers_thread_as_a_plain_loop_does(engine: Any) -> None:
    """Unless it is pinned to the loop. Inside a program it is that one's thread or task, as ever."""

    def program(number: int) -> tuple[int, bool]:
        if number == 3:
            raise ValueError(number)
        return await_(asyncio.sleep(0, number)), threading.current_thread() is here

    async def program_on_loop(number: int) -> tuple[int, bool]:
        return number, threading.current_thread() is here

    here, rows, options = threading.current_thread(), [(number,) for number in range(5)], {**quiet, "max_in_flight": 1}
    expected = [(number, engine != "loop") for number in range(5)]
    found = batch(program, rows, engine=engine, on_error="return", **options)
    assert isinstance(found[3], ValueError)
    assert found[:3] + found[4:] == expected[:3] + expected[4:]
    with pytest.raises(ValueError, match="3"):
        batch(program, rows, engine=engine, **options)
    assert batch(program_on_loop, rows, engine=engine, **options) == [(number, False) for number in range(5)]


def test_examples_are_read_as_results_are_taken(lm: StubLM) -> None:
    read = []

    def rows() -> Iterator[dict[str, str]]:
        for number in range(1000):
            read.append(number)
            yield {"question": f"q{number}"}

    found = iter_batch(Ask(), rows(), max_in_flight=10, **quiet)
    assert read == []
    for _ in range(20):
        next(found)
    assert len(read) <= 20 + 2 * 10
    found.close()
    assert len(read) <= 40


@pytest.mark.parametrize("ordered", [True, False])
def test_order_is_kept_on_request(lm: StubLM, ordered: bool) -> None:
    program = dspy.Predict("question -> answer")

    def rows() -> Iterator[dict[str, str]]:
        """Of those behind the first, which is held, some are done before the tenth is read."""
        lm.released.clear()
        for number in range(30):
            if number == 9:
                lm.released.set()
            yield {"question": f"q{number}" if number else "hold"}

    for found in (
        [item.index for item in iter_batch(program, rows(), ordered=ordered, max_in_flight=6, **quiet)],
        [item.index for item in asyncio.run(items(program, rows(), ordered=ordered, max_in_flight=6))],
    ):
        assert sorted(found) == list(range(30))
        assert (found[0] == 0) is ordered
        assert (found == sorted(found)) is ordered


def test_an_ordered_batch_does_not_run_away_from_a_slow_first(lm: StubLM) -> None:
    rows = ({"question": "hold" if number == 0 else f"q{number}"} for number in range(1000))

    async def main() -> None:
        found = abatch(dspy.Predict("question -> answer"), rows, ordered=True, max_in_flight=5, **quiet)
        first = asyncio.ensure_future(anext(found))
        while len(lm.asked) < 50:
            await asyncio.sleep(0)
        for _ in range(2000):
            await asyncio.sleep(0)
        assert len(lm.asked) <= 60
        lm.released.set()
        assert (await first).index == 0
        await found.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("rows", [list, iter], ids=["list", "iterator"])
def test_errors_are_raised_in_the_order_of_the_examples(lm: StubLM, rows: Any) -> None:
    """The earlier one fails later."""

    async def program(n: int) -> int:
        for _ in range(100 if n == 3 else 5):
            await asyncio.sleep(0)
        if n in (3, 4, 5):
            raise KeyError(n)
        return n

    with pytest.raises(KeyError) as caught:
        batch(program, rows([(n,) for n in range(10)]), **quiet)
    assert caught.value.args == (3,)
    assert [frame.name for frame in caught.traceback][-1] == "program"
    if hasattr(caught.value, "__notes__"):
        assert caught.value.__notes__ == ["This was example 3 of a batch."]


def test_what_is_behind_an_error_is_cancelled(lm: StubLM) -> None:
    rows = [{"question": "bad"}, *({"question": f"hold {n}"} for n in range(5))]
    with pytest.raises(ValueError, match="bad"):
        batch(Ask(), rows, max_in_flight=6, engine="loop", **quiet)
    assert lm.in_flight == 0
    assert lm.cancelled <= 5


def test_errors_can_be_returned(lm: StubLM) -> None:
    rows = [*questions(3), {"question": "bad"}, *questions(3)]
    results = batch(Ask(), rows, on_error="return", **quiet)
    assert [type(each).__name__ for each in results] == ["Prediction"] * 3 + ["ValueError"] + ["Prediction"] * 3
    found = sorted(asyncio.run(items(Ask(), rows, on_error="return")), key=lambda item: item.index)
    assert [item.error is None for item in found] == [True] * 3 + [False] + [True] * 3
    assert found[3].result is None
    assert found[3].example == {"question": "bad"}


def test_stop_iteration_is_raised_as_it_is() -> None:
    with pytest.raises(StopIteration, match="text"):
        batch(stops, [{"text": "text"}], progress=False)
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(iter_batch(stops, [{"text": "text"}], progress=False))


def stops(text: str) -> Any:
    raise StopIteration(text)


def test_an_exit_ends_the_batch_whatever_is_asked_for() -> None:
    def program(n: int) -> int:
        if n == 2:
            raise SystemExit(7)
        return n

    with pytest.raises(SystemExit, match="7"):
        batch(program, [(n,) for n in range(5)], on_error="return", **quiet)


def test_inside_a_bridged_program(lm: StubLM) -> None:
    predict = dspy.Predict("question -> answer")  # here: Python's parser fails now and then if threads parse at once

    def program() -> list[str]:
        return [each.answer for each in batch(predict, questions(20), **quiet)]

    async def main() -> Any:
        return await asyncio.gather(*(run(program, engine=engine) for engine in ("loop", "thread", "auto")))  # type: ignore[arg-type]

    assert asyncio.run(main()) == [wanted(20)] * 3


def test_async_examples_in_sync_code_and_results_while_the_source_waits(lm: StubLM) -> None:
    async def rows() -> AsyncIterator[dict[str, str]]:
        for number in range(5):
            await asyncio.sleep(0)
            yield {"question": f"q{number}"}

    assert [each.answer for each in batch(Ask(), rows(), **quiet)] == wanted(5)

    async def main() -> None:
        more = asyncio.Event()

        async def slow() -> AsyncIterator[dict[str, str]]:
            yield {"question": "q0"}
            await more.wait()
            yield {"question": "q1"}

        found = abatch(Ask(), slow(), **quiet)
        assert (await anext(found)).index == 0  # though the source has not said what comes next
        more.set()
        assert (await anext(found)).index == 1
        with pytest.raises(StopAsyncIteration):
            await anext(found)

    asyncio.run(main())


def test_an_error_of_the_source_is_raised(lm: StubLM) -> None:
    def rows() -> Iterator[dict[str, str]]:
        yield from questions(3)
        raise OSError("no more rows")

    with pytest.raises(OSError, match="no more rows"):
        batch(Ask(), rows(), **quiet)


def test_leaving_and_cancelling_stop_what_is_in_flight(lm: StubLM) -> None:
    rows = [{"question": "q"}, *({"question": f"hold {n}"} for n in range(8))]

    async def left() -> None:
        async with contextlib.aclosing(abatch(dspy.Predict("question -> answer"), rows, **quiet)) as found:
            async for _ in found:
                break

    asyncio.run(left())
    assert lm.in_flight == 0

    async def cancelled() -> None:
        task = asyncio.create_task(items(dspy.Predict("question -> answer"), rows))
        while lm.in_flight < 8:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert lm.in_flight == 0


@pytest.mark.parametrize("tracked", [True, False])
def test_trace_and_usage_are_in_the_order_of_the_examples(lm: StubLM, tracked: bool) -> None:
    rows = [{"question": "x" * length} for length in (30, 1, 20, 2)]

    def observed(call: Any) -> Any:
        from dspy.utils.usage_tracker import track_usage

        with dspy.context(trace=[], track_usage=tracked):
            with track_usage() if tracked else contextlib.nullcontext() as tracker:
                results = call()
                trace = [(inputs, outputs.answer) for _, inputs, outputs in dspy.settings.trace]
        return trace, tracker and tracker.usage_data, [each.get_lm_usage() for each in results]

    program = dspy.Predict("question -> answer")
    plain = observed(lambda: [program(**row) for row in rows])
    assert observed(lambda: batch(program, rows, **quiet)) == plain
    assert observed(lambda: batch(program, rows, progress=True)) == plain  # which counts tokens for itself
    assert len(plain[0]) == 4


def test_the_bar_shows_what_happens(lm: StubLM, capsys: pytest.CaptureFixture[str]) -> None:
    batch(Ask(), [*questions(9), {"question": "bad"}], on_error="return")
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "0 in flight, 1 errors, 27 tokens" in shown


def test_each_example_has_a_context_of_its_own(lm: StubLM) -> None:
    def program(n: int) -> Any:
        from dspy.dsp.utils.settings import thread_local_overrides

        before = dspy.settings.get("mark")
        thread_local_overrides.set({**thread_local_overrides.get(), "mark": n})
        return before

    with dspy.context(mark="mine"):
        assert batch(program, [(n,) for n in range(20)], **quiet) == ["mine"] * 20
        assert dspy.settings.mark == "mine"


def test_wrong_options() -> None:
    for wrong, error in (
        ({"max_in_flight": 0}, ValueError),
        ({"max_in_flight": "5"}, TypeError),
        ({"on_error": "ignore"}, ValueError),
    ):
        with pytest.raises(error):
            batch(abs, [], **wrong)
    with pytest.raises(UnknownEngineError):
        batch(abs, [], engine="fast")  # type: ignore[arg-type]
    assert batch(abs, []) == []
