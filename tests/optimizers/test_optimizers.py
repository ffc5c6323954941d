"""Optimizers do with a decorated program exactly what they do with the plain one."""

from __future__ import annotations

import asyncio
import contextvars
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspy_parallel import install, run, uninstall
from tests.optimizers.programs import Deterministic, Review, examples, feedback, make, metric, score, state
from tests.support.observation import logged

THREADS = contextvars.ContextVar("threads", default=1)
"""Of the optimizers. With one, what they ask has an order."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:Implementing custom LMs:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def bootstrap(program: Any, lm: Any) -> Any:
    optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=3, max_labeled_demos=4)
    return optimizer.compile(program, trainset=examples())


def random_search(program: Any, lm: Any) -> Any:
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric,
        max_bootstrapped_demos=2,
        max_labeled_demos=2,
        num_candidate_programs=2,
        num_threads=THREADS.get(),
    )
    return optimizer.compile(program, trainset=examples(4), valset=examples(6)[4:])


def mipro(program: Any, lm: Any) -> Any:
    pytest.importorskip("optuna")
    optimizer = dspy.MIPROv2(
        metric=metric,
        prompt_model=lm,
        task_model=lm,
        auto=None,
        num_candidates=3,
        max_bootstrapped_demos=2,
        max_labeled_demos=2,
        num_threads=THREADS.get(),
        seed=3,
        verbose=False,
    )
    return optimizer.compile(
        program, trainset=examples(6), valset=examples(10)[6:], num_trials=4, minibatch=False, seed=3
    )


def gepa(program: Any, lm: Any) -> Any:
    pytest.importorskip("gepa")
    optimizer = dspy.GEPA(metric=feedback, max_metric_calls=60, reflection_lm=lm, num_threads=THREADS.get(), seed=0)
    return optimizer.compile(program, trainset=examples(4), valset=examples(6)[4:])


def simba(program: Any, lm: Any) -> Any:
    optimizer = dspy.SIMBA(
        metric=metric, bsize=4, num_candidates=2, max_steps=2, max_demos=2, num_threads=THREADS.get()
    )
    return optimizer.compile(program, trainset=examples(8), seed=5)


OPTIMIZERS = (bootstrap, random_search, mipro, gepa, simba)


def compiled(
    compile_: Callable[[Any, Any], Any], *, decorate: bool, bridged: bool = False, overlap: bool = False
) -> tuple[Any, ...]:
    """The optimised program, its state, and the LM that knows the prompts that led to it."""
    random.seed(1)
    lm = Deterministic(overlap=overlap)

    def whole() -> Any:
        return compile_(make(decorate=decorate, overlap=overlap), lm)

    with warnings.catch_warnings(), logged(), dspy.context(lm=lm):
        warnings.simplefilter("ignore")
        program = asyncio.run(run(whole, engine="thread")) if bridged else whole()
    return program, state(program), lm


@pytest.mark.parametrize("optimize", OPTIMIZERS, ids=lambda optimize: optimize.__name__)
def test_equal_demos_and_instructions(optimize: Any) -> None:
    """And by the same prompts in the same order; also if the optimizer itself runs in the bridge."""
    _, expected, lm = compiled(optimize, decorate=False)
    # GEPA keeps a proposal only if it scores better, which it need not.
    assert optimize is gepa or expected != state(make(decorate=False)), "nothing was optimised"
    assert len(lm.prompts) >= 9  # the three calls of the program, for each of the three demos that are wanted
    for bridged in (False, True):
        program, found, its_lm = compiled(optimize, decorate=True, bridged=bridged)
        assert found == expected
        assert its_lm.prompts == lm.prompts
    with dspy.context(lm=Deterministic()):
        awaited, called = asyncio.run(program.acall(question="new")), program(question="new")
    assert awaited.toDict() == called.toDict()


@pytest.mark.parametrize("optimize", OPTIMIZERS, ids=lambda optimize: optimize.__name__)
def test_equal_if_overlapped(optimize: Any) -> None:
    """By the same prompts, of which some were in flight together; also if the optimizer itself runs in the bridge."""
    _, expected, lm = compiled(optimize, decorate=False)
    assert max(lm.in_flight) <= 1
    for bridged in (False, True):
        _, found, its_lm = compiled(optimize, decorate=True, bridged=bridged, overlap=True)
        assert found == expected
        assert sorted(its_lm.prompts) == sorted(lm.prompts)
        assert max(its_lm.in_flight) >= 2


@pytest.mark.parametrize("optimize", [random_search, mipro, gepa], ids=lambda optimize: optimize.__name__)
def test_equal_with_executors_on_the_loop(optimize: Any) -> None:
    """Those that run many examples at once do so on the loop as in threads."""
    THREADS.set(6)
    try:
        _, expected, lm = compiled(optimize, decorate=False)
        install(executors=True)
        _, found, its_lm = compiled(optimize, decorate=False)
    finally:
        THREADS.set(1)
        uninstall()
    assert found == expected
    assert sorted(its_lm.prompts) == sorted(lm.prompts)
    assert max(lm.in_flight) == 0  # nobody awaited it
    assert max(its_lm.in_flight) > 1


@pytest.mark.parametrize("wrapper", [dspy.BestOfN, dspy.Refine])
def test_best_of_n_and_refine(wrapper: Any) -> None:
    """They pick the same attempt, after the same calls."""

    def outcome(*, decorate: bool, bridged: bool = False, overlap: bool = False) -> Any:
        lm = Deterministic(overlap=overlap)
        program = make(decorate=decorate, overlap=overlap)
        best = wrapper(program, N=4, reward_fn=lambda _, p: score(p.verdict), threshold=2.0)
        with dspy.context(lm=lm):
            found = asyncio.run(run(best, question="q", engine="loop")) if bridged else best(question="q")
        assert (max(lm.in_flight) >= 2) is overlap
        return found.toDict(), sorted(lm.prompts) if overlap else lm.prompts

    plain = outcome(decorate=False)
    assert len(plain[1]) >= 12
    assert outcome(decorate=True) == outcome(decorate=True, bridged=True) == plain
    in_any_order = plain[0], sorted(plain[1])
    assert outcome(decorate=True, overlap=True) == outcome(decorate=True, bridged=True, overlap=True) == in_any_order


def test_what_is_saved_is_what_the_plain_program_saves(tmp_path: Path) -> None:
    """Either can be loaded by the other, with its demos."""
    optimised = compiled(bootstrap, decorate=True)[0]
    assert optimised.judge.demos
    plain = Review()
    plain.load_state(optimised.dump_state())
    optimised.save(tmp_path / "decorated.json")
    plain.save(tmp_path / "plain.json")
    assert (tmp_path / "decorated.json").read_text() == (tmp_path / "plain.json").read_text()
