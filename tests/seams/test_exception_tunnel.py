"""What DSPy's `except Exception` must not swallow."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import ThreadRequiredError, async_module, loop_safe, offload, run

ANSWER = {"next_thought": "t", "answer": "a", "reasoning": "r", "generated_code": "```python\n1\n```"}
FINISH = {**ANSWER, "next_tool_name": "finish", "next_tool_args": "{}"}
CALL = {**FINISH, "next_tool_name": "look_up", "next_tool_args": '{"key": "k"}'}


def look_up(key: str) -> str:
    """Look something up."""
    return "found"


@offload
def block() -> str:
    return "blocked"


class Blocking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question: str) -> Any:
        return dspy.Prediction(answer=block())


def agent() -> Any:
    return dspy.ReAct("question -> answer", tools=[look_up], max_iters=3)


def sampled(reward_fn: Any = lambda args, prediction: 1.0, module: Any = None) -> Any:
    return dspy.BestOfN(module or Blocking(), N=3, reward_fn=reward_fn, threshold=1.0)


def rewarded() -> Any:
    return sampled(lambda args, prediction: len(block()), dspy.Predict("question -> answer"))


def refined() -> Any:
    return dspy.Refine(Blocking(), N=3, reward_fn=lambda args, prediction: 1.0, threshold=1.0)


def programmed() -> Any:
    return dspy.ProgramOfThought("question -> answer", max_iters=2)


@pytest.mark.parametrize("make", [agent, sampled, rewarded, refined, programmed])
@pytest.mark.parametrize("is_async", [False, True])
def test_the_strict_engine_says_that_it_needs_a_thread(make: Any, is_async: bool) -> None:
    """To whoever chose the engine, not to the model."""

    def program() -> Any:
        return make()(question="?")

    async def aprogram() -> Any:
        return await make().acall(question="?")

    lm = DummyLM([CALL, FINISH, FINISH, FINISH, FINISH, FINISH])
    with dspy.context(lm=lm, trace=[]), pytest.raises(ThreadRequiredError, match="engine='loop'"):
        asyncio.run(run(aprogram if is_async and make is agent else program, engine="loop"))
    assert len(lm.history) <= 1


def test_of_a_decorated_module() -> None:
    class Asking(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.agent = agent()

        def forward(self, question: str) -> Any:
            return self.agent(question=question)

    with dspy.context(lm=DummyLM([CALL, FINISH, FINISH])), pytest.raises(ThreadRequiredError, match="look_up"):
        asyncio.run(async_module(Asking, engine="loop")().acall(question="?"))


def test_users_cannot_swallow_it() -> None:
    """Not in a tool either: the agent would tell the LM."""

    @loop_safe
    def look_up(key: str) -> str:
        """Look something up."""
        try:
            return block()
        except ThreadRequiredError:
            return "caught"

    agent = dspy.ReAct("question -> answer", tools=[look_up], max_iters=3)
    with dspy.context(lm=DummyLM([CALL, FINISH, FINISH])), pytest.raises(ThreadRequiredError):
        asyncio.run(run(lambda: agent(question="?"), engine="loop"))


def test_a_reward_function_is_the_users_again() -> None:
    """Also in copies that were made in the middle of a run."""
    copies = []

    def reward_fn(args: Any, prediction: Any) -> float:
        copies.extend([copy.deepcopy(module).reward_fn, copy.copy(module).deepcopy().reward_fn])
        return 1.0

    module = sampled(reward_fn, dspy.Predict("question -> answer"))
    own = module.reward_fn
    with dspy.context(lm=DummyLM([{"answer": "a"}] * 3), trace=[]):
        assert asyncio.run(run(module, question="?", engine="loop")).answer == "a"
    assert module.reward_fn is own
    assert [type(copied) for copied in copies] == [type(own)] * 2


def test_pickled_in_the_middle_of_a_run() -> None:
    module = sampled(len, dspy.Predict("question -> answer"))
    module.reward_fn = max  # DSPy's own is a lambda, which pickle refuses
    pickles = []

    def program() -> None:
        with dspy.context(lm=DummyLM([{"answer": "a"}]), callbacks=[Pickling()]):
            module(question="?")

    class Pickling(dspy.utils.callback.BaseCallback):  # type: ignore[name-defined, misc, unused-ignore]
        def on_lm_start(self, call_id: str, instance: Any, inputs: Any) -> None:
            pickles.append(pickle.dumps(module.reward_fn))

    with pytest.raises(TypeError):
        asyncio.run(run(program, engine="loop"))
    assert [pickle.loads(pickled) for pickled in pickles[:1]] == [max]
