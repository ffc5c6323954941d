"""A provider at its worst: each item ends as in the sync program, once; nothing is left behind."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
import pytest

from dspy_parallel import limit
from dspy_parallel.testing import LMServer
from tests.chaos.faults import FAULTS, RETRIES, is_faulty, item
from tests.limits.programs import Answer, InThread, OnLoop
from tests.testing.dspy_world import ENGINES

Outcome = tuple[Any, ...]
# For these nobody waits long: there are no stalls, and who is refused is not refused for ever.
PROMPT = [fault for fault in FAULTS if fault["kind"] != "stall" and (fault["kind"] != "429" or "first" in fault)]


def outcome_of(result: Any) -> Outcome:
    """The answer, or the class of the error and what it knows of its cause, for DSPy's sync and async texts differ."""
    if isinstance(result, BaseException):
        facts = (getattr(result, name, None) for name in ("code", "status", "status_code", "provider_code"))
        return "error", type(result).__name__, *facts
    return "answer", result.answer


def as_sync(server: LMServer, lm: Any, numbers: list[int]) -> dict[int, Outcome]:
    """What the plain program gives for each item: no bridge, no limit; in threads, as it would take an hour."""

    def call(number: int) -> Outcome:
        with dspy.context(lm=lm):
            try:
                return outcome_of(Answer()(question=item(number)))
            except Exception as exc:
                return outcome_of(exc)

    server.reset_stats()
    # The first one alone: LiteLLM makes a client for each thread that finds none, and drops all but one, unclosed.
    first = call(numbers[0])
    with ThreadPoolExecutor(64) as pool:
        return dict(zip(numbers, [first, *pool.map(call, numbers[1:])], strict=True))


def make_lm(server: LMServer, engine: str | None, timeout: float) -> Any:
    chosen = {} if engine is None else {"engine": engine}
    return dspy.LM("openai/any", cache=False, num_retries=RETRIES, timeout=timeout, **server.lm_kwargs(), **chosen)


async def bridged(program: Any, lm: Any, count: int, ended: list[int]) -> list[Any]:
    async def one(number: int) -> Any:
        try:
            return await program.acall(question=item(number))
        finally:
            ended.append(number)

    before = asyncio.all_tasks()
    with dspy.context(lm=lm):
        results = await asyncio.gather(*(one(n) for n in range(count)), return_exceptions=True)
    if hasattr(lm, "aclose"):
        await lm.aclose()
    # A task of LiteLLM's own lives as long as the loop.
    left = [task for task in asyncio.all_tasks() - before if "litellm" not in repr(task)]
    assert not left, f"tasks left: {left}"
    return results


def check(
    server: LMServer,
    program: Any,
    engine: str | None,
    count: int,
    in_flight: int,
    faults: list[dict[str, Any]] = FAULTS,
    timeout: float = 100.0,
) -> Any:
    server.configure(faults=faults, latency=0.1)
    plain = make_lm(server, engine, timeout)
    expected = as_sync(server, plain, list(range(count)))
    native = engine == "lm15"  # LiteLLM keeps its clients, and their connections
    if native:
        plain.close()
        server.wait_for(connections=0)
    server.reset_stats()
    lm = make_lm(server, engine, timeout)
    # Stalls hold their places for as long as the timeout: a refused call may wait for several of them.
    held = limit(lm, max_in_flight=in_flight, give_up_after=timeout)
    ended: list[int] = []
    results = asyncio.run(asyncio.wait_for(bridged(program, lm, count, ended), 1500))

    assert sorted(ended) == list(range(count)), "lost, or ended twice"
    different = {n: (outcome_of(r), expected[n]) for n, r in enumerate(results) if outcome_of(r) != expected[n]}
    assert not different, f"{len(different)} differ from the sync program: {dict(list(different.items())[:10])}"
    errors = [result for result in results if isinstance(result, BaseException)]
    assert 0 < len(errors) < 0.05 * count

    stats = server.wait_for(in_flight=0)
    assert stats.completed == count - len(errors), "answered more often than asked"
    assert set(stats.faults) == {fault["kind"] for fault in faults}
    assert (held.in_flight, held.waiting) == (0, 0)
    if native:
        server.wait_for(connections=0)
    assert len(lm.history) == len(plain.history)
    assert sum(entry["usage"]["total_tokens"] for entry in lm.history) == sum(
        entry["usage"]["total_tokens"] for entry in plain.history
    )
    print(
        f"\n{count:,} calls at {in_flight} in flight (server's peak {stats.peak_in_flight}): {len(errors)} ended in "
        f"the error of the sync program, faults {dict(stats.faults)}, {held.refusals} refusals"
    )
    return stats


@pytest.mark.once
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize(("program", "engine"), [(OnLoop, ENGINES[0]), (InThread, ENGINES[-1])], ids=["loop", "thread"])
def test_chaos(server: LMServer, program: type[Answer], engine: str | None) -> None:
    """A small storm, with each engine of ours and, where it has two, each of DSPy's."""
    check(server, program(), engine, 100, 50, PROMPT)


@pytest.mark.stress
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("engine", ENGINES)
def test_chaos_10_000(server: LMServer, engine: str | None) -> None:
    """The whole of it: 10,000 calls at 500 in flight."""
    stats = check(server, OnLoop(), engine, 10_000, 500, timeout=20.0)
    assert stats.peak_in_flight >= 400


def test_the_share_of_faults() -> None:
    """17 % of the items, as the table above says."""
    assert sum(is_faulty(n) for n in range(10_000)) == 1700
