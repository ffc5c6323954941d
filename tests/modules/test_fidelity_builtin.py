"""`await m.acall(...)` gives what `m(...)` gives, for every module class that DSPy ships."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import types
import warnings
from collections.abc import Callable
from typing import Any

import dspy
import pytest

import dspy_parallel
from dspy_parallel.seams.async_counterparts import is_counterpart
from tests.modules.interpreters import LOCAL_INTERPRETER, LocalPython, with_interpreter
from tests.support.observation import WAYS, World, assert_same
from tests.support.stub_lms import TwinLM

Made = tuple[Any, tuple[Any, ...], dict[str, Any]]


def search(query: str, top: int = 2) -> list[str]:
    """Search the web."""
    return [query.upper()] * top


async def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


def fails(reason: str) -> str:
    """Always raises."""
    raise LookupError(f"no, because {reason[:0]}of me")


def score(_: Any, prediction: Any) -> float:
    """A reward that only the text decides."""
    return sum(map(ord, str(prediction.answer))) % 10 / 10


def picky(_: Any, __: Any) -> float:
    return 0.5


def grumpy(_: Any, __: Any) -> float:
    raise ArithmeticError("no reward today")


class Asked(dspy.Module):
    """A forward-only program, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.ChainOfThought("question -> answer")

    def forward(self, question: str) -> Any:
        return self.think(question=question)


def predict(world: World) -> Made:
    return dspy.Predict("question -> answer: int, why: list[str]"), (), {"question": "q"}


def predict_many(world: World) -> Made:
    return dspy.Predict("question -> answer", n=3), (), {"question": "q"}


def predict_fails(world: World) -> Made:
    return dspy.Predict("question -> answer"), (), {"question": "raise LMFailure"}


def predict_warns(world: World) -> Made:
    return dspy.Predict("question, context -> answer"), (), {"question": "q", "unknown": 1}


def predict_positional(world: World) -> Made:
    return dspy.Predict("question -> answer"), ("q",), {}


def chain_of_thought(world: World) -> Made:
    return dspy.ChainOfThought("question -> answer: bool"), (), {"question": "q"}


def best_of_n(world: World) -> Made:
    return dspy.BestOfN(Asked(), N=3, reward_fn=score, threshold=0.95), (), {"question": "q"}


def best_of_n_fails(world: World) -> Made:
    return dspy.BestOfN(Asked(), N=3, reward_fn=grumpy, threshold=1.0, fail_count=1), (), {"question": "q"}


def refine(world: World) -> Made:
    return dspy.Refine(Asked(), N=3, reward_fn=picky, threshold=1.0), (), {"question": "q"}


def refine_fails(world: World) -> Made:
    return dspy.Refine(Asked(), N=2, reward_fn=grumpy, threshold=1.0), (), {"question": "raise LMFailure"}


def multi_chain_comparison(world: World) -> Made:
    attempts = [dspy.Prediction(reasoning="r", answer=str(n)) for n in range(3)]
    return dspy.MultiChainComparison("question -> answer"), (attempts,), {"question": "q"}


def multi_chain_comparison_fails(world: World) -> Made:
    return dspy.MultiChainComparison("question -> answer", M=2), ([],), {"question": "q"}


def react(world: World) -> Made:
    return dspy.ReAct("question -> answer: int", tools=[search, look_up]), (), {"question": "q"}


def react_with_failing_tool(world: World) -> Made:
    return dspy.ReAct("question -> answer", tools=[fails], max_iters=2), (), {"question": "q"}


def react_v2(world: World) -> Made:
    return dspy.ReActV2("question -> answer: int", tools=[search, look_up]), (), {"question": "q"}


def program_of_thought(world: World) -> Made:
    return with_interpreter(dspy.ProgramOfThought, "question -> answer"), (), {"question": "q"}


def program_of_thought_fails(world: World) -> Made:
    class Broken(LocalPython):
        def execute(self, code: str, variables: Any = None) -> Any:
            return getattr(dspy, "CodeExecutionError", ValueError)("no") and 1 / 0

    return with_interpreter(dspy.ProgramOfThought, "question -> answer", interpreter=Broken), (), {"question": "q"}


def program_of_thought_in_subprocess(world: World) -> Made:
    program = with_interpreter(dspy.ProgramOfThought, "question -> answer", interpreter=LOCAL_INTERPRETER)
    return program, (), {"question": "q"}


def code_act(world: World) -> Made:
    return with_interpreter(dspy.CodeAct, "question -> answer", tools=[search]), (), {"question": "q"}


def rlm(world: World) -> Made:
    return with_interpreter(dspy.RLM, "context, question -> answer: int"), (), {"context": "c", "question": "q"}


def rlm_in_subprocess(world: World) -> Made:
    program = with_interpreter(dspy.RLM, "context, question -> answer: int", interpreter=LOCAL_INTERPRETER)
    return program, (), {"context": "c", "question": "q"}


def flex(world: World) -> Made:
    return dspy.Flex("question -> answer", interpreter_factory=LOCAL_INTERPRETER), (), {"question": "q"}


def ensemble(world: World) -> Made:
    program = dspy.Ensemble(reduce_fn=dspy.majority).compile([Asked(), dspy.Predict("question -> answer"), Asked()])
    return program, (), {"question": "q"}


def syncified(world: World) -> Made:
    return dspy.syncify(dspy.ChainOfThought("question -> answer"), in_place=False), (), {"question": "q"}


def semantic_f1(world: World) -> Made:
    example = dspy.Example(question="q", response="r")
    return dspy.evaluate.SemanticF1(), (example, dspy.Prediction(response="s")), {}


def semantic_f1_decompositional(world: World) -> Made:
    example = dspy.Example(question="q", response="r")
    return dspy.evaluate.SemanticF1(decompositional=True), (example, dspy.Prediction(response="s"), []), {}


def complete_and_grounded(world: World) -> Made:
    example = dspy.Example(question="q", response="r")
    return dspy.evaluate.CompleteAndGrounded(), (example, dspy.Prediction(response="s", context="c")), {}


def generate_module_instruction(world: World) -> Made:
    from dspy.propose.grounded_proposer import GenerateModuleInstruction

    program = GenerateModuleInstruction(program_code_string="pass", program_aware=True)
    arguments = {"demo_candidates": {0: [[]]}, "pred_i": 0, "demo_set_i": 0, "program": Asked()}
    return program, (), {**arguments, "previous_instructions": "", "data_summary": "numbers", "tip": "be brief"}


def single_component_proposer(world: World) -> Made:
    from dspy.teleprompt.gepa.instruction_proposal import SingleComponentMultiModalProposer

    data = [{"Inputs": {"question": "q"}, "Generated Outputs": {"answer": "a"}, "Feedback": "wrong"}]
    return SingleComponentMultiModalProposer(), (), {"current_instruction": "answer", "reflective_dataset": data}


def rules_induction(world: World) -> Made:
    from dspy.teleprompt.infer_rules import RulesInductionProgram

    return RulesInductionProgram(2, {"temperature": 1.0}), (), {"examples_text": "1 + 1 = 2"}


def parallel(world: World) -> Made:
    pairs = [(Asked(), {"question": f"q{n}"}) for n in range(3)] + [
        (Asked(), dspy.Example(question="e").with_inputs("question"))
    ]
    return dspy.Parallel(num_threads=1, disable_progress_bar=True), (pairs,), {}


def parallel_fails(world: World) -> Made:
    pairs = [(Asked(), {"question": text}) for text in ("q", "raise LMFailure")]
    return dspy.Parallel(num_threads=1, return_failed_examples=True, disable_progress_bar=True), (pairs,), {}


def embedded(texts: list[str]) -> Any:
    import numpy

    return numpy.array([[len(text) % 5, text.count("a"), 1.0] for text in texts], dtype=numpy.float32)


def knn(world: World) -> Made:
    examples = [dspy.Example(text=text).with_inputs("text") for text in ("a", "ab", "abcd", "bbb")]
    return dspy.KNN(2, examples, dspy.Embedder(embedded)), (), {"text": "abc"}


def retrieve(world: World) -> Made:
    return dspy.Retrieve(k=2), ("query",), {}


def embeddings(world: World) -> Made:
    return dspy.retrievers.Embeddings(["a", "ab", "abcd"], dspy.Embedder(embedded), k=2), ("abc",), {}


def passages(query: str, k: int) -> list[Any]:
    return [types.SimpleNamespace(long_text=f"{query} {n}") for n in range(k)]


PROGRAMS: dict[str, list[Callable[[World], Made]]] = {
    "Predict": [predict, predict_many, predict_fails, predict_warns, predict_positional],
    "ChainOfThought": [chain_of_thought],
    "BestOfN": [best_of_n, best_of_n_fails],
    "Refine": [refine, refine_fails],
    "MultiChainComparison": [multi_chain_comparison, multi_chain_comparison_fails],
    "ReAct": [react, react_with_failing_tool],
    "ReActV2": [react_v2],
    "ProgramOfThought": [program_of_thought, program_of_thought_fails, program_of_thought_in_subprocess],
    "CodeAct": [code_act],
    "RLM": [rlm, rlm_in_subprocess],
    "Flex": [flex],
    "EnsembledProgram": [ensemble],
    "SyncWrapper": [syncified],
    "SemanticF1": [semantic_f1, semantic_f1_decompositional],
    "CompleteAndGrounded": [complete_and_grounded],
    "GenerateModuleInstruction": [generate_module_instruction],
    "SingleComponentMultiModalProposer": [single_component_proposer],
    "RulesInductionProgram": [rules_induction],
    # Called like modules, but no subclasses of dspy.Module:
    "Parallel": [parallel, parallel_fails],
    "KNN": [knn],
    "Retrieve": [retrieve],
    "Embeddings": [embeddings],
}
IMPOSSIBLE = {"Avatar": "broken as shipped: its constructor reads dspy.TypedPredictor, which is gone"}
DEFINED_IN_FUNCTIONS = {"EnsembledProgram", "SyncWrapper"}

QUOTES_ITS_FRAMES = {react_with_failing_tool}
"""DSPy's own `ReAct.aforward` shows the LM a traceback, in which the names of DSPy's async functions appear."""

THREADS = tuple(way for way in WAYS if way not in ("sync", "loop"))
NEED_A_THREAD = {
    react, react_with_failing_tool, react_v2, code_act, parallel, parallel_fails, knn, retrieve,
    program_of_thought_in_subprocess, rlm_in_subprocess, flex,
}  # fmt: skip
"""Programs with sync tools, threads, subprocesses: `engine="loop"` refuses those."""


def shipped() -> dict[str, type]:
    """Every subclass of `dspy.Module` in DSPy's own modules."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in pkgutil.walk_packages(dspy.__path__, "dspy.", onerror=lambda name: None):
            if module.name.rpartition(".")[2].endswith(("_worker", "_shim", "__main__")):
                continue  # programs, not modules
            try:
                importlib.import_module(module.name)
            except ImportError:
                pass  # an extra that is not installed, or a module whose removal is announced that way
    found: dict[str, type] = {}
    todo = [dspy.Module]
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            if cls.__module__.startswith("dspy."):
                found[cls.__name__] = cls
    return found


def test_no_module_is_forgotten():
    unknown = set(shipped()) - set(PROGRAMS) - set(IMPOSSIBLE)
    assert not unknown, f"DSPy {dspy.__version__} ships modules that are not tested: {unknown}"


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_impossible_ones_are_impossible(name):
    cls = shipped()[name]
    with pytest.raises(AttributeError, match="TypedPredictor"):
        cls("question -> answer", tools=[])


def makers() -> list[Any]:
    found = []
    for name, variants in PROGRAMS.items():
        for make in variants:
            missing = name not in DEFINED_IN_FUNCTIONS and not hasattr(dspy, name) and name not in shipped_names()
            missing = missing or (LOCAL_INTERPRETER is None and "LOCAL_INTERPRETER" in inspect.getsource(make))
            found.append(
                pytest.param(make, id=make.__name__, marks=pytest.mark.skip("not in this DSPy") if missing else ())
            )
    return found


def shipped_names() -> set[str]:
    return set(shipped()) | {"Embeddings", "KNN"}


def settings(make: Callable[[World], Made]) -> dict[str, Any]:
    found: dict[str, Any] = {"allow_tool_async_sync_conversion": True}
    return {**found, "rm": lambda _: passages} if make is retrieve else found


def ways(make: Callable[[World], Made]) -> tuple[str, ...]:
    return THREADS if make in NEED_A_THREAD else WAYS[1:]


@pytest.mark.parametrize("make", makers())
def test_sync_code_in_the_bridge(make):
    """The module is called inside a program: its own `aforward()`, if any, is not involved."""
    assert_same(make, lambda: {"main": TwinLM("main")}, ways(make), by="run", track_usage=True, **settings(make))


@pytest.mark.parametrize("make", makers())
def test_acall_after_install(make):
    """`install()` makes every module awaitable."""
    if make in QUOTES_ITS_FRAMES:
        pytest.skip("DSPy's own async code differs from its sync code here")
    assert_same(make, lambda: {"main": TwinLM()}, ways(make)[:2], by="install", track_usage=True, **settings(make))


def test_own_aforwards_are_left_alone():
    """Where DSPy has an async side of its own, `install()` changes nothing about it."""
    own = [cls for cls in shipped().values() if is_counterpart(cls, "forward", "aforward")]
    assert {dspy.Predict, dspy.ChainOfThought, dspy.ReAct} <= {*own}
    before = [(cls.aforward, cls.acall) for cls in own]
    dspy_parallel.install()
    try:
        for cls, (aforward, acall) in zip(own, before, strict=True):
            assert cls.aforward is aforward, cls
            assert cls.acall in (acall, dspy.Module.acall), cls
    finally:
        dspy_parallel.uninstall()
    assert [(cls.aforward, cls.acall) for cls in own] == before
