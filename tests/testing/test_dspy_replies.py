"""Replies parse under DSPy's adapters, at the first attempt, for every type, with both engines."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest

from dspy_parallel.testing import LMServer
from tests.testing.dspy_world import (
    ADAPTERS,
    ENGINES,
    TYPES,
    VERSION,
    Author,
    Color,
    cannot,
    make_adapter,
    make_lm,
)


def _signature(kind: str) -> Any:
    fields = {"question": (str, dspy.InputField()), "result": (TYPES[kind], dspy.OutputField(desc="what is asked"))}
    return dspy.Signature(fields, "Answer.")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_type(server: LMServer, adapter: str, kind: str) -> None:
    """One request, and a value that passes the type's validation; chain of thought puts a string before it."""
    if reason := cannot(adapter, kind):
        pytest.skip(reason)
    with dspy.context(lm=make_lm(server, ENGINES[0]), adapter=make_adapter(adapter)):
        prediction = dspy.ChainOfThought(_signature(kind))(question="Why?")
    assert isinstance(prediction.reasoning, str)
    assert prediction.reasoning.startswith("reasoning")
    assert prediction.result is not None
    assert server.stats().requests == 1


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("engine", ENGINES)
def test_many_fields_async(server: LMServer, engine: str | None, adapter: str) -> None:
    """All types in one signature, through acall."""
    kinds = [k for k in TYPES if not cannot(adapter, k)]
    fields: dict[str, Any] = {"question": (str, dspy.InputField())}
    fields |= {f"out_{k}": (TYPES[k], dspy.OutputField()) for k in kinds}
    predict = dspy.Predict(dspy.Signature(fields, "Answer."))

    async def main() -> Any:
        with dspy.context(lm=make_lm(server, engine), adapter=make_adapter(adapter)):
            return await predict.acall(question="Why?")

    prediction = asyncio.run(main())
    assert set(prediction.keys()) == {f"out_{k}" for k in kinds}
    assert server.stats().requests == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_calls_have_equal_results_and_others_differ(server: LMServer, engine: str | None) -> None:
    """What a program computes is a function of its inputs, also across the engines."""
    predict = dspy.Predict("question -> answer, score: float")
    with dspy.context(lm=make_lm(server, engine), adapter=make_adapter("ChatAdapter")):
        first, again, other = (predict(question=q) for q in ("a", "a", "b"))
    assert dict(first.items()) == dict(again.items())
    assert first.answer != other.answer
    with dspy.context(lm=make_lm(server, ENGINES[0]), adapter=make_adapter("ChatAdapter")):
        assert predict(question="a").answer == first.answer


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_demos_do_not_confuse(server: LMServer, adapter: str) -> None:
    """Demonstrations are assistant messages in the same format."""
    predict = dspy.Predict("question -> answer, score: int")
    predict.demos = [dspy.Example(question="x", answer="y", score=1), dspy.Example(question="z", answer="w")]
    with dspy.context(lm=make_lm(server, ENGINES[0]), adapter=make_adapter(adapter)):
        prediction = predict(question="Why?")
    assert isinstance(prediction.score, int)
    assert prediction.answer.startswith("answer ")
    assert server.stats().requests == 1


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_programmed_fields(server: LMServer, adapter: str) -> None:
    """Values given by a rule arrive as they are, in every format."""
    given = {"answer": 'A <b> & "c"', "score": 42, "names": ["x & y", "z"], "color": "green"}
    server.configure(replies=[{"fields": {**given, "author": {"name": "Ann", "age": 40}}}])
    fields = {
        "question": (str, dspy.InputField()),
        "answer": (str, dspy.OutputField()),
        "score": (int, dspy.OutputField()),
        "names": (list[str], dspy.OutputField()),
        "color": (Color, dspy.OutputField()),
        "author": (Author, dspy.OutputField()),
    }
    if adapter == "XMLAdapter" and VERSION < (3, 3):
        server.configure(replies=[{"fields": {**given, "answer": "plain", "author": {"name": "Ann", "age": 40}}}])
        given["answer"] = "plain"  # XMLAdapter did not unescape then
        given["names"] = ["z"]
        server.configure(replies=[{"fields": {**given, "author": {"name": "Ann", "age": 40}}}])
    with dspy.context(lm=make_lm(server, ENGINES[0]), adapter=make_adapter(adapter)):
        prediction = dspy.Predict(dspy.Signature(fields, "Answer."))(question="Why?")
    assert {name: prediction[name] for name in given} == {**given, "color": Color.GREEN}
    assert prediction.author == Author(name="Ann", age=40)


@pytest.mark.parametrize("engine", ENGINES)
def test_several_completions(server: LMServer, engine: str | None) -> None:
    """n > 1 gives different candidates, in one request if the engine passes n on."""
    server.configure(replies=[{"match": "Why", "fields": [{"answer": a} for a in "abc"]}])
    with dspy.context(lm=make_lm(server, engine, temperature=1.0), adapter=make_adapter("ChatAdapter")):
        prediction = dspy.Predict("question -> answer", n=3)(question="Why?")
    assert len(set(prediction.completions.answer)) == 3
    assert server.stats().requests == (3 if engine == "lm15" else 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_structured_outputs(server: LMServer, engine: str | None) -> None:
    """A model known to take a response schema is sent one, and the reply fits it."""
    server.configure(log_bodies=True)
    lm = make_lm(server, engine, model="openai/gpt-4o-mini")
    with dspy.context(lm=lm, adapter=make_adapter("JSONAdapter")):
        prediction = dspy.Predict(_signature("model_of_choices"))(question="Why?")
    assert prediction.result.owner.age > 0
    assert server.log()[0].body["response_format"]["type"] == "json_schema"
    assert server.stats().requests == 1


# Pydantic's about LiteLLM's types, with the first stream only.
@pytest.mark.filterwarnings("ignore:Item 'summary' on TypedDict:UserWarning")
@pytest.mark.parametrize("engine", ENGINES)
def test_streamify(server: LMServer, engine: str | None) -> None:
    """DSPy's own streaming of a field gets the text in pieces."""
    server.configure(words=6)
    program = dspy.streamify(
        dspy.Predict("question -> answer"),
        stream_listeners=[dspy.streaming.StreamListener(signature_field_name="answer")],
    )

    async def main() -> tuple[list[str], Any]:
        chunks, prediction = [], None
        async for item in program(question="Why?"):
            if isinstance(item, dspy.Prediction):
                prediction = item
            elif isinstance(item, dspy.streaming.StreamResponse):
                chunks.append(item.chunk)
        return chunks, prediction

    with dspy.context(lm=make_lm(server, engine), adapter=make_adapter("ChatAdapter")):
        chunks, prediction = asyncio.run(main())
    assert len(chunks) > 1
    assert "".join(chunks).strip() == prediction.answer


def test_embedder(server: LMServer) -> None:
    """Vectors for a batch of texts."""
    embed = dspy.Embedder("openai/some-embedding", caching=False, **server.lm_kwargs())
    vectors = embed(["a", "b", "a"])
    assert vectors.shape == (3, 8)
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] != vectors[1]).any()


def test_wrong_content_parses_under_no_adapter(server: LMServer) -> None:
    """The fault makes every adapter fail, after its fallback."""
    server.configure(faults=["wrong_content"])
    for adapter in ADAPTERS:
        with dspy.context(lm=make_lm(server, ENGINES[0]), adapter=make_adapter(adapter)):
            with pytest.raises(Exception, match=r"(?i)pars|serialize|expected"):
                dspy.Predict("question -> answer: int")(question="Why?")


@pytest.mark.parametrize("engine", ENGINES)
def test_context_length_is_recognised(server: LMServer, engine: str | None) -> None:
    """DSPy and LiteLLM take the injected error for a full context window."""
    server.configure(faults=["context_length"])
    with dspy.context(lm=make_lm(server, engine), adapter=make_adapter("ChatAdapter")):
        with pytest.raises(Exception) as raised:
            dspy.Predict("question -> answer")(question="Why?")
    assert "ContextWindowExceeded" in type(raised.value).__name__
