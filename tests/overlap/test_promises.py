"""What overlap promises beyond the result: cancelled calls, discarded ones, and programs of every origin."""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import linecache
import random
import threading
import types
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.teleprompt import BootstrapFewShot
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback

from dspy_parallel import async_module, explain, ordered, overlapped, pure, run
from dspy_parallel.analysis import source as sources
from dspy_parallel.overlap.runtime.fibers import Fiber
from tests.overlap.test_constructs import HoldingLM
from tests.support.timed_lm import LMFailure, TimedLM, always
from tests.support.virtual_time import run_virtual


class Three(dspy.Module):
    """Three independent calls."""

    def __init__(self) -> None:
        super().__init__()
        self.p = dspy.Predict("x -> y")
        self.topic = "first"

    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=[self.p(x=x).y, self.p(x=x + self.topic).y, self.p(x=x + "3").y])


@pure
class HeldLM(TimedLM):
    """Never answers, but for what fails; knows who was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.cancelled: list[str] = []
        self.cancels = threading.Semaphore(0)
        self.in_flight = 0

    async def aforward(self, prompt: Any = None, messages: Any = None, **kwargs: Any) -> Any:
        text = str(messages)
        self.in_flight += 1
        try:
            if "raise LMFailure" in text:
                while self.in_flight < 3:
                    await asyncio.sleep(0.01)
            else:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.append(text)
            self.cancels.release()
            raise
        return await super().aforward(prompt, messages, **kwargs)


def seconds(program: Any, lm: Any = None, **inputs: Any) -> float:
    with dspy.context(lm=lm or TimedLM()):
        _, elapsed = run_virtual(functools.partial(run, program, engine="loop", overlap=True, **inputs))
    return elapsed


# After an exception or a cancel


def test_calls_that_an_exception_makes_unwanted_are_cancelled() -> None:
    """At once, though the program catches it and goes on."""

    class Caught(Three):
        def forward(self, x: str) -> Any:
            try:
                return dspy.Prediction(y=[self.p(x="raise LMFailure"), self.p(x="1"), self.p(x="2")])
            except Exception:
                # No test of `explain()`, whose end would cancel them: of a program that goes on.
                at_once.extend(lm.cancels.acquire(timeout=60) for _ in range(2))
                return dspy.Prediction(y="went on")

    lm, at_once = HeldLM(), list[bool]()
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        report = explain(Caught(), x="")
    assert report.exception is None
    assert at_once == [True, True]
    assert (report.discarded, report.cancelled) == (2, 2)
    assert len(lm.cancelled) == 2
    assert report.reasons


def test_same_exception_in_the_same_place() -> None:
    """Of a call that the scout made, with the frames of the program."""

    class Fails(Three):
        def forward(self, x: str) -> Any:
            one = self.p(x=x)
            return one, self.p(x="raise LMFailure")

    with dspy.context(lm=TimedLM()):
        with pytest.raises(LMFailure) as sequential:
            Fails()(x="x")
        with pytest.raises(LMFailure) as ahead:
            run_virtual(run, Fails(), engine="loop", overlap=True, x="x")
    assert str(ahead.value) == str(sequential.value)
    assert "forward" in [entry.name for entry in ahead.traceback]


async def test_cancel_reaches_all_calls() -> None:
    """When the program's task is cancelled, so are the scout's calls."""
    lm = HeldLM()
    with dspy.context(lm=lm):
        task = asyncio.create_task(run(Three(), engine="loop", overlap=True, x="x"))
        while lm.in_flight < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    while len(lm.cancelled) < 3:
        await asyncio.sleep(0)


# Inputs that changed


def test_changed_inputs_discard_the_early_call() -> None:
    """A callback, of which the scout knows nothing, changes what it has read."""
    program, made = Three(), threading.Event()

    class Change(BaseCallback):
        def on_module_end(self, *args: Any, **kwargs: Any) -> None:
            assert made.wait(60)
            program.topic = "second"

    class Noting(TimedLM):
        def _read(self, *args: Any) -> Any:
            try:
                return super()._read(*args)
            finally:
                if len(self.requests) == 3:
                    made.set()

    lm = Noting(latency=always(0.01))
    with dspy.context(lm=lm, callbacks=[Change()]):
        report = explain(program, x="x")
    assert report.discarded == 1
    assert len(lm.requests) == 4
    plain = Three()
    plain.topic = "second"
    other = TimedLM()
    with dspy.context(lm=other):
        plain(x="x")
    assert set(other.requests) <= set(lm.requests)


def test_own_containers_may_change() -> None:
    """An argument that the program changes between two calls: each call is made with what is in it then."""

    class Grows(Three):
        def forward(self, x: list[str]) -> Any:
            one = self.p(x=x)
            x.append("more")
            return one, self.p(x=x)

    lm, given = TimedLM(), ["a"]
    assert seconds(Grows(), lm, x=given) == 1
    assert given == ["a", "more"]
    assert len(lm.requests) == 2


# What is never made early


def test_lm_that_answers_in_order() -> None:
    with dspy.context(lm=DummyLM([{"y": "1"}, {"y": "2"}, {"y": "3"}])):
        report = explain(Three(), x="x")
    assert report.early == 0
    assert len(report.calls) == 3
    assert any("@pure" in text for _, text in report.reasons)


def test_predictor_with_callbacks_of_its_own() -> None:
    program = Three()
    program.p.callbacks = [BaseCallback()]
    with dspy.context(lm=TimedLM(latency=always(0.01))):
        report = explain(program, x="x")
    assert report.early == 0
    assert any("callbacks" in text for _, text in report.reasons)


def touched(x: str) -> None:
    Path(__file__).stat()


def test_ordered_modules_and_unknown_functions_end_it() -> None:
    """What comes after them is not done before them, and the report names the line."""

    @ordered
    class Memory(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.p = dspy.Predict("x -> y")

        def forward(self, x: str) -> Any:
            return self.p(x=x)

    class Remembers(Three):
        def __init__(self, between: Any) -> None:
            super().__init__()
            self.between = between

        def forward(self, x: str) -> Any:
            one = self.p(x=x)
            self.between(x=x)
            return one, self.p(x=x + "2")

    for between, reason in ((Memory(), "@ordered"), (touched, "may have effects")):
        with dspy.context(lm=TimedLM(latency=always(0.01))):
            report = explain(Remembers(between), x="x")
        assert not report.calls[-1].is_early
        assert [reason in text for _, text in report.reasons] == [True]
        assert Path(__file__).name in report.reasons[0][0]
        assert "in sequence since" in report.calls[-1].waited_for


# Programs of every origin

SOURCE = """
class Program(Three):
    def forward(self, x):
        one = self.p(x=x)
        return dspy.Prediction(y=one.y + self.p(x=x + "!").y)
"""


def executed(name: str) -> Any:
    names = {"Three": Three, "dspy": dspy, "__name__": __name__}
    exec(compile(SOURCE, name, "exec"), names)
    return names["Program"]()


def test_notebook_cell() -> None:
    linecache.cache["<ipython-input-1>"] = (len(SOURCE), None, SOURCE.splitlines(True), "<ipython-input-1>")
    assert seconds(executed("<ipython-input-1>"), x="x") == 1


def test_without_source_it_runs_in_sequence_and_says_so() -> None:
    assert seconds(executed("<nowhere>"), x="x") == 2
    with dspy.context(lm=TimedLM(latency=always(0.01))):
        report = explain(executed("<nowhere>"), x="x")
    assert any("no source" in text for _, text in report.reasons)


def test_what_the_parser_refuses_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """CPython up to 3.12 may, if threads parse at the same time."""
    parse, refused = ast.parse, []

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        if not refused:
            refused.append(args)
            raise SystemError("AST constructor recursion depth mismatch (before=102, after=108)")
        return parse(*args, **kwargs)

    linecache.cache["<ipython-input-2>"] = (len(SOURCE), None, SOURCE.splitlines(True), "<ipython-input-2>")
    program = executed("<ipython-input-2>")
    monkeypatch.setattr(ast, "parse", fails_once)
    assert seconds(program, x="x") == 1
    assert refused


def test_changed_source_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "program.py"
    file.write_text(SOURCE)
    program = executed(str(file))
    file.write_text(SOURCE.replace("one", "uno").replace('"!"', '"?"'))
    linecache.checkcache(str(file))
    lm = TimedLM()
    assert seconds(program, lm, x="x") == 2
    assert len(lm.requests) == 2


def logged(forward: Any) -> Any:
    @functools.wraps(forward)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        print("called with", kwargs)
        return forward(self, *args, **kwargs)

    return wrapper


class Decorated(Three):
    @logged
    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=self.p(x=x).y + self.p(x=x + "!").y)


class Inherited(Three):
    pass


class ThroughSuper(Three):
    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=[*super().forward(x).y, self.p(x="more").y])


class WithPrivateNames(Three):
    def __init__(self) -> None:
        super().__init__()
        self.__mark = "!"

    def __marked(self, x: str) -> str:
        return x + self.__mark

    def forward(self, x: str) -> Any:
        return dspy.Prediction(y=self.p(x=x).y + self.p(x=self.__marked(x)).y)


@pytest.mark.parametrize("cls", [Decorated, Inherited, ThroughSuper, WithPrivateNames])
def test_forwards(cls: Any) -> None:
    """Decorated, inherited, through super(), with private names."""
    assert seconds(cls(), x="x") == 1


def test_closures_and_bound_methods() -> None:
    p = dspy.Predict("x -> y")

    def both(x: str) -> list[str]:
        return [p(x=x).y, p(x=x + "!").y]

    assert seconds(both, x="x") == 1
    assert seconds(Three().forward, x="x") == 1
    with dspy.context(lm=TimedLM(latency=always(0.0))):
        assert overlapped(both)("x") == both("x")


def test_replaced_predictors_and_forwards() -> None:
    """On the instance, as optimizers do it."""
    program = Three()
    program.p = dspy.ChainOfThought("x -> y")  # type: ignore[assignment]
    assert seconds(program, x="x") == 1

    def forward(self: Any, x: str) -> Any:
        return self.p(x=x), self.p(x=x + "!")

    program.forward = types.MethodType(forward, program)  # type: ignore[method-assign]
    assert seconds(program, x="x") == 1


def trained(overlap: bool) -> Any:
    cls = type("Three", (Three,), {})
    program = async_module(cls, overlap=overlap, engine="loop")()
    examples = [dspy.Example(x=f"{i}", y="?").with_inputs("x") for i in range(3)]
    with dspy.context(lm=TimedLM(latency=always(0.0))):
        optimizer = BootstrapFewShot(metric=lambda example, prediction, trace=None: True, max_bootstrapped_demos=2)
        return optimizer.compile(program, trainset=examples)


def test_optimizers_and_saved_programs(tmp_path: Path) -> None:
    """A compiled program is the same, overlaps, and does so after it was saved and loaded."""
    plain, program = trained(False), trained(True)
    assert program.dump_state() == plain.dump_state()
    assert program.p.demos
    assert seconds(program, x="x") == 1
    program.save(str(tmp_path / "program.json"))
    loaded = Three()
    loaded.load(str(tmp_path / "program.json"))
    assert seconds(loaded, x="x") == 1


def test_syntax_trees_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds(Three(), x="x")
    read: list[str] = []
    monkeypatch.setattr(sources, "_read", lambda code, name: read.append(name))
    assert seconds(Three(), x="x") == 1
    assert not read


def test_on_every_loop(run_here: Any) -> None:
    """Also with eager tasks, whose first step runs where they are made. Nobody is answered before all are there."""

    async def main() -> Any:
        return await asyncio.gather(*(run(Three(), engine="loop", overlap=True, x=f"{i}") for i in range(5)))

    lm = HoldingLM(5 * 3)
    with dspy.context(lm=lm):
        outputs = run_here(main)
        assert [output.toDict() for output in outputs] == [Three()(x=f"{i}").toDict() for i in range(5)]
    assert len(lm.requests) == 30


async def test_nothing_is_left_behind(no_leaks: None) -> None:
    """No task, and no strand, after a program whose scout had much to wait for."""

    class Waits(Three):
        def forward(self, x: str) -> Any:
            for i in range(3):
                if len(self.p(x=f"{x}{i}").y) > 100:
                    self.p(x="long")
            raise ValueError(self.p(x=x).y)

    def fibers() -> list[Fiber]:
        gc.collect()
        return [each for each in gc.get_objects() if type(each) is Fiber]

    before = fibers()
    with dspy.context(lm=TimedLM(latency=always(0.001))):
        with pytest.raises(ValueError, match="y"):
            await run(Waits(), engine="loop", overlap=True, x="x")
    await asyncio.sleep(0)
    assert not [each for each in fibers() if each not in before]


def test_chance_is_left_to_the_program() -> None:
    """A predictor draws random bytes when it is made, on either side; the program's are those of its seed."""

    class Makes(dspy.Module):
        def forward(self, x: str) -> Any:
            found = [dspy.Predict("x -> y")(x=x).y, dspy.ChainOfThought("x -> z")(x=x).z]
            return dspy.Prediction(found=found, chance=random.random())

    lm = TimedLM(latency=always(0.0))
    with dspy.context(lm=lm):
        random.seed(3)
        expected = Makes()(x="x")
        random.seed(3)
        report = explain(program := Makes(), x="x")
        random.seed(3)
        found = overlapped(program.forward)(x="x")
    assert report.joined == 1
    assert found.toDict() == expected.toDict()


def test_a_predictor_may_be_called_like_a_method_of_texts() -> None:
    """Whether a scout is worth it is told by how many calls may ask an LM."""

    class Translates(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.translate, self.second = dspy.Predict("x -> y"), dspy.Predict("x -> y")

        def forward(self, x: str) -> Any:
            return dspy.Prediction(found=[self.translate(x=x).y, self.second(x=x).y])

    with dspy.context(lm=TimedLM()):
        _, seconds = run_virtual(run, Translates(), engine="loop", overlap=True, x="x")
    assert seconds == pytest.approx(1)
