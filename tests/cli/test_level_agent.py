"""The level agent as it stands and with the decorator, on the loopback server; the issue's verification tests."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from examples.level_agent import agent, models, recorded, verification
from tests.support.children import PRELOADED

ROOT = Path(__file__).resolve().parents[2]
RECORDING = recorded.load()
ENGINES = ("auto", "loop", "thread")


@pytest.fixture(scope="module")
def module_server() -> Iterator[LMServer]:
    with LMServer() as server:
        yield server


@pytest.fixture
def server(module_server: LMServer) -> LMServer:
    """The server with the recorded replies, but without their latencies."""
    module_server.restore()
    module_server.configure(replies=RECORDING.rules(scale=0))
    return module_server


def lms_of(server: LMServer) -> dict[str, Any]:
    names = (models.QWEN3_235B, models.GPT_OSS_120B)
    return {name: models.litellm_lm(f"openai/{name}", **server.lm_kwargs()) for name in names}


def decorated(engine: str) -> dict[str, type]:
    """Fresh subclasses, so that each engine is that of its own classes."""
    return {name: async_module(engine=engine)(type(cls.__name__, (cls,), {})) for name, cls in agent.EXTRACTORS.items()}


def agent_of(server: LMServer, classes: dict[str, type] | None = None) -> agent.LevelAgent:
    lms = lms_of(server)
    made = agent.LevelAgent(*lms.values())
    if classes is not None:
        qwen, gpt = lms.values()
        made.time, made.nontime, made.vector = (
            cls(lm) for cls, lm in zip(classes.values(), (qwen, gpt, gpt), strict=True)
        )
    return made


def extract(server: LMServer, questions: list[agent.Question]) -> list[agent.Extraction]:
    """As it stands. In a thread: in the main thread, LiteLLM's sync calls make an event loop and leave it open."""
    with ThreadPoolExecutor(1) as threads:
        return list(threads.map(agent_of(server).extract, questions))


def test_as_it_stands_calls_go_one_after_the_other(server):
    (found,) = extract(server, RECORDING.questions[:1])
    assert found.query.search_text == "onboarding"
    stats = server.stats()
    assert (stats.requests, stats.peak_in_flight) == (3, 1)
    assert stats.models == {models.QWEN3_235B: 1, models.GPT_OSS_120B: 2}


@pytest.mark.parametrize("engine", ENGINES)
def test_decorated_extractors_overlap_and_find_the_same(server, engine):
    expected = extract(server, RECORDING.questions)
    together = agent_of(server, decorated(engine))

    async def answer_all():
        found = []
        for question in RECORDING.questions:
            # No reply is sent before all three requests are there: a program in sequence would not get past it.
            server.configure(gate=3)
            found.append(await together.extract_in_parallel(question))
        return found

    assert asyncio.run(asyncio.wait_for(answer_all(), 100)) == expected
    assert server.stats().peak_in_flight == 3


class TestVerificationTestsOfTheIssue:
    def test_1_async_conversion_works(self, server):
        server.configure(replies=[*RECORDING.rules(scale=0), verification._REPLY_TO_TEST])
        result = asyncio.run(verification.confirm_async_conversion(lms_of(server)))
        assert result.time_filters == []

    def test_2_parallel_execution(self, server):
        lms = lms_of(server)

        async def both():
            await verification.confirm_async_conversion(lms)  # warms LiteLLM up
            server.configure(replies=RECORDING.rules(scale=0.5), gate=3)
            return await verification.verify_parallel_execution(lms, RECORDING.questions[0])

        duration, results = asyncio.run(both())
        assert duration >= max(RECORDING.latency_seconds.values()) * 0.5
        assert server.stats().peak_in_flight == 3, "and by the gate: in sequence, the first would have had no reply"
        assert [len(values) for values in (results[0].time_filters, results[1].property_filters)] == [2, 1]
        assert results[2].vector_searches[0].query == "onboarding"

    @pytest.mark.once
    def test_both_as_an_example(self):
        done = subprocess.run(
            [*PRELOADED, "-m", "examples.level_agent.verification"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Both hold." in done.stdout
