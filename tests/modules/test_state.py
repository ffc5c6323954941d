"""Decorated programs are copied, pickled, saved and optimised like any other."""

from __future__ import annotations

import asyncio
import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloudpickle
import dspy
import pytest

from dspy_parallel import async_module, install, uninstall
from tests.modules.programs import Decorated, Echo, Mixed, Plain
from tests.support.observation import logged
from tests.support.stub_lms import TwinLM

CLASSES = pytest.mark.parametrize("cls", [Decorated, Mixed])


def local_class() -> Any:
    """One that can only be pickled by value."""

    @async_module
    class Base(dspy.Module):
        def __init__(self):
            super().__init__()
            self.first = dspy.ChainOfThought("question -> answer")

        def forward(self, question):
            return self.first(question=question)

    class Local(Base):
        def __init__(self):
            super().__init__()
            self.then = [dspy.Predict("answer -> verdict")]

        def forward(self, question):
            return self.then[0](answer=super().forward(question).answer)

    return Local


def verdicts(program: Any) -> tuple[str, str]:
    """What it says when awaited, and when called."""
    with dspy.context(lm=TwinLM()):
        return asyncio.run(program.acall("q")).verdict, program("q").verdict


def assert_works(program: Any) -> None:
    awaited, called = verdicts(program)
    assert awaited == called == verdicts(Decorated())[1]


@pytest.fixture(params=["decorator", "install"])
def plain_or_installed(request):
    """Pickling and copying while DSPy's classes are patched, and while install() is in force."""
    if request.param == "install":
        install()
    yield
    uninstall()


@CLASSES
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda p: p.deepcopy(), lambda p: p.reset_copy()])
def test_copies(cls, duplicate, plain_or_installed):
    program = cls()
    assert_works(program)
    other = duplicate(program)
    assert type(other) is cls
    assert_works(other)
    assert [name for name, _ in other.named_predictors()] == ["first.predict", "then[0]"]


@CLASSES
def test_cloudpickle(cls, plain_or_installed):
    program = cloudpickle.loads(cloudpickle.dumps(cls()))
    assert type(program) is cls
    assert_works(program)


def test_pickle(plain_or_installed):
    """Predictors of string signatures cannot be pickled in DSPy; a program without them can."""
    program = pickle.loads(pickle.dumps(Echo()))
    assert asyncio.run(program.acall("q")) == program("q") == "q"


@CLASSES
def test_pickle_of_predictors_is_what_dspy_makes_of_it(cls, plain_or_installed):
    """Whatever it raises for the plain program, it raises for the decorated one."""

    def outcome(program):
        try:
            return type(pickle.loads(pickle.dumps(program))).__name__
        except Exception as exc:
            return type(exc)

    plain = outcome(Plain())
    assert outcome(cls()) == (cls.__name__ if isinstance(plain, str) else plain)


def test_cloudpickle_by_value(plain_or_installed):
    program = cloudpickle.loads(cloudpickle.dumps(local_class()()))
    assert_works(program)


def test_a_copy_with_a_patched_forward():
    """Optimizers leave such programs behind."""
    program = Decorated()
    program.forward = lambda question: program.first(question=f"patched {question}")
    other = copy.deepcopy(program)
    with dspy.context(lm=TwinLM()):
        assert asyncio.run(other.acall("q")).answer == program("q").answer


IN_A_FRESH_PROCESS = """
import asyncio, pickle, sys, warnings
warnings.simplefilter("ignore")
data = sys.stdin.buffer.read()
assert "dspy_parallel" not in sys.modules
programs = [pickle.loads(each) for each in pickle.loads(data)]
import dspy
from tests.support.stub_lms import TwinLM
for program in programs:
    with dspy.context(lm=TwinLM()):
        awaited, called = asyncio.run(program.acall("q")).verdict, program("q").verdict
    assert awaited == called, (awaited, called)
    print(called)
"""


def test_in_a_fresh_process():
    """The class brings the bridge along; nothing has been imported or patched there before."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_FRESH_PROCESS],
        input=pickle.dumps([cloudpickle.dumps(cls()) for cls in (local_class(), Decorated, Mixed)]),
        capture_output=True,
        cwd=Path(__file__).parents[2],
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines() == [verdicts(Decorated())[1]] * 3


@CLASSES
def test_save_and_load_state(cls, tmp_path):
    program = cls()
    program.then[0].demos = [dspy.Example(answer="a", verdict="v").with_inputs("answer")]
    program.save(tmp_path / "program.json")
    loaded = cls()
    loaded.load(tmp_path / "program.json")
    assert loaded.dump_state() == program.dump_state()
    assert verdicts(loaded) == verdicts(program)


@pytest.mark.parametrize("cls", [Decorated, Mixed, local_class()])
def test_save_and_load_program(cls, tmp_path):
    with logged():
        cls().save(tmp_path / "program", save_program=True)
        options = {"allow_pickle": True} if "allow_pickle" in dspy.load.__code__.co_varnames else {}
        assert_works(dspy.load(tmp_path / "program", **options))


def test_state_of_a_decorated_program_fits_the_plain_one(tmp_path):
    program = Decorated()
    program.save(tmp_path / "program.json")
    plain = Plain()
    plain.load(tmp_path / "program.json")
    assert plain.dump_state() == program.dump_state()


def test_evaluate():
    with dspy.context(lm=TwinLM()):
        examples = [dspy.Example(question=str(n)).with_inputs("question") for n in range(3)]
        evaluate = dspy.Evaluate(devset=examples, metric=lambda *_: 1.0, num_threads=2, display_progress=False)
        result = evaluate(Decorated())
    assert getattr(result, "score", result) == 100.0


@CLASSES
def test_batch(cls):
    with dspy.context(lm=TwinLM()):
        examples = [dspy.Example(question="q").with_inputs("question")] * 2
        found = cls().batch(examples, num_threads=2, disable_progress_bar=True)
    assert [prediction.verdict for prediction in found] == [verdicts(cls())[1]] * 2


@CLASSES
def test_set_lm(cls):
    program = cls()
    program.set_lm(TwinLM("own"))
    assert program.get_lm().model == "stub/own"
    other = TwinLM("other")
    with dspy.context(lm=other):
        assert asyncio.run(program.acall("q")).verdict == program("q").verdict
    assert not other.history


def test_asyncify_and_syncify():
    """DSPy's own converters take decorated programs."""
    with dspy.context(lm=TwinLM()):
        awaited = asyncio.run(dspy.asyncify(Decorated())("q"))
        assert awaited.verdict == Decorated()("q").verdict
        called = dspy.syncify(Decorated(), in_place=False)("q")
        assert called.verdict == awaited.verdict
