"""Optimizers give the same programs and scores on the loop as in threads, with an LM whose replies are fixed."""

from __future__ import annotations

import random
from typing import Any

import dspy
import pytest

from dspy_parallel.testing import LMServer

pytestmark = pytest.mark.filterwarnings("ignore")


class Classify(dspy.Module):
    """Two steps, so that there is something to bootstrap."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("question -> thought")
        self.classify = dspy.Predict("question, thought -> label: bool, weight: int")

    def forward(self, question: str) -> Any:
        thought = self.think(question=question).thought
        return self.classify(question=question, thought=thought)


def rows(count: int) -> list[dspy.Example]:
    return [dspy.Example(question=f"question {n}", label=n % 3 == 0).with_inputs("question") for n in range(count)]


def metric(example: Any, prediction: Any, trace: Any = None, *_: Any) -> Any:
    """Not only 0 and 1, so that sums could differ."""
    return 0.7 * (prediction.label == example.label) + 0.3 / (1 + abs(prediction.weight) % 7)


def feedback(example: Any, prediction: Any, trace: Any = None, *_: Any) -> Any:
    score = metric(example, prediction)
    return dspy.Prediction(score=score, feedback=f"The label should be {example.label}.")


def bootstrap(program: Any) -> Any:
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric, num_candidate_programs=3, max_bootstrapped_demos=2, max_labeled_demos=2, num_threads=6
    )
    best = optimizer.compile(program, trainset=rows(10))
    return best, [each["score"] for each in best.candidate_programs]


def mipro(program: Any) -> Any:
    pytest.importorskip("optuna")
    optimizer = dspy.MIPROv2(
        metric=metric, auto=None, num_candidates=3, max_bootstrapped_demos=1, max_labeled_demos=1, num_threads=6, seed=5
    )
    asked = {} if not hasattr(optimizer, "requires_permission_to_run") else {"requires_permission_to_run": False}
    best = optimizer.compile(
        program, trainset=rows(10), valset=rows(12), num_trials=3, minibatch=True, minibatch_size=6, **asked
    )
    return best, sorted(each["score"] for each in best.candidate_programs), best.score


def gepa(program: Any) -> Any:
    optimizer = dspy.GEPA(
        metric=feedback, max_metric_calls=40, num_threads=6, reflection_lm=dspy.settings.lm, seed=5, track_stats=True
    )
    best = optimizer.compile(program, trainset=rows(6), valset=rows(8))
    found = best.detailed_results
    return best, found.val_aggregate_scores, found.total_metric_calls


@pytest.mark.parametrize("optimize", [bootstrap, mipro, gepa])
def test_same_scores_and_programs(lm_server: LMServer, on_loop: Any, optimize: Any) -> None:
    lm_server.configure(latency=0.01)

    def call() -> Any:
        random.seed(3)
        lm = dspy.LM("openai/any", cache=False, **lm_server.lm_kwargs())
        with dspy.context(lm=lm):
            best, *scores = optimize(Classify())
            again = dspy.Evaluate(devset=rows(12), metric=metric, num_threads=6)(best).score
        state = {name: part.dump_state() for name, part in best.named_predictors()}
        return scores, again, [(part["signature"], part["demos"]) for part in state.values()]

    plain = call()
    lm_server.reset_stats()
    ours = on_loop(call)
    assert ours == plain
    assert len(plain[0][0]) > 1
    assert lm_server.stats().peak_in_flight > 1
