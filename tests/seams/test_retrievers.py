"""Embedders and retrievers."""

from __future__ import annotations

import threading
from typing import Any

import dspy
import pytest

from dspy_parallel.errors import ThreadRequiredError
from dspy_parallel.testing import LMServer
from tests.seams.programs import PATIENCE, Meeting, alone, same_as_sync, together

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_hosted_embedders_overlap(server: LMServer, engine: str) -> None:
    embed = dspy.Embedder("openai/test-embedding", caching=False, batch_size=2, **server.lm_kwargs())
    embed("warm")
    server.configure(gate=4)
    bridged = together(lambda n: embed([f"text {n}", "b", "c"]), 4, engine=engine)
    for n, found in enumerate(bridged):
        assert found.shape[0] == 3
        assert (found == embed([f"text {n}", "b", "c"])).all()
    assert server.stats().peak_in_flight == 4


def test_functions_as_embedders_run_in_threads() -> None:
    meeting = Meeting(3)

    def model(texts: list[str]) -> Any:
        meeting.wait()
        return np.array([[len(text), 1.0] for text in texts])

    embed = dspy.Embedder(model)
    for found in together(lambda: embed(["a", "bb"]), 3):
        assert found.tolist() == [[1, 1], [2, 1]]
    with pytest.raises(ThreadRequiredError, match="the embedding model has no async counterpart"):
        alone(lambda: embed("a"), engine="loop")


def test_errors_of_embedders() -> None:
    embed = dspy.Embedder(lambda texts: [[1.0]] * len(texts))
    same_as_sync(lambda: embed([1]))
    same_as_sync(lambda: dspy.Embedder(None)("a"))


def test_a_subclass_of_an_embedder_keeps_its_override() -> None:
    class Upper(dspy.Embedder):
        def __call__(self, inputs: Any, **kwargs: Any) -> Any:
            return super().__call__(inputs.upper(), **kwargs)

    embed = Upper(lambda texts: [[float(ord(text[0]))] for text in texts], caching=False)
    assert alone(lambda: embed("a")).tolist() == [65.0]


@pytest.mark.parametrize("engine", ["loop", "auto", "thread"])
def test_searches_that_come_together_are_one_batch(engine: str) -> None:
    """Eight at once: in sync code each would wait for a batch of its own. Here a batch waits until it is full."""
    batches: list[int] = []

    def embed(texts: list[str]) -> Any:
        batches.append(len(texts))
        if len(batches) > 1:
            retriever.search_fn.max_wait_time = 0.01  # read by this thread next: it is to end when it is told
        return np.array([[float(text.endswith(str(n))) for n in range(8)] for text in texts])

    retriever = dspy.retrievers.Embeddings(corpus=[f"passage {n}" for n in range(8)], embedder=embed, k=1)
    try:
        retriever.search_fn.max_wait_time, retriever.search_fn.max_batch_size = PATIENCE / 2, 8
        found = together(lambda n: retriever(f"query {n}"), 8, engine=engine)
        assert [prediction.passages for prediction in found] == [[f"passage {n}"] for n in range(8)]
        assert batches == [8, 8]  # the corpus, and the queries
    finally:
        retriever.search_fn.close()


@pytest.mark.parametrize("engine", ["loop", "thread"])
def test_unbatchify(engine: str) -> None:
    def double(items: list[int]) -> list[int]:
        if "bad" in items:
            raise ValueError("bad batch")
        return [2 * item for item in items]

    with dspy.utils.unbatchify.Unbatchify(double, max_wait_time=0.01) as batched:
        assert alone(lambda: batched(3), engine=engine) == 6
        assert alone(lambda: batched(input_item=4), engine=engine) == 8
        same_as_sync(lambda: batched("bad"), engine=engine)
        same_as_sync(lambda: batched(), engine=engine)
        same_as_sync(lambda: batched(1, 2), engine=engine)


def test_retrieve_with_the_configured_retriever() -> None:
    meeting, before = Meeting(3), threading.active_count()

    def search(query: str, k: int, **kwargs: Any) -> Any:
        meeting.wait()
        return [dspy.Example(long_text=f"{query} {n}") for n in range(k)]

    class Sub(dspy.Retrieve):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    for cls in (dspy.Retrieve, Sub):
        with dspy.context(rm=search):
            found = together(lambda n, cls=cls: cls(k=2)(f"query {n}").passages, 3)  # type: ignore[misc]
            assert found == [[f"query {n} 0", f"query {n} 1"] for n in range(3)]
            with pytest.raises(ThreadRequiredError, match="retriever"):
                alone(lambda cls=cls: cls(k=2)("strict"), engine="loop")  # type: ignore[misc]
    assert threading.active_count() < before + 20
