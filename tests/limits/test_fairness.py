"""A call that is refused again and again does not keep the others out."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from dspy_parallel import limit
from dspy_parallel.testing import LMServer
from tests.limits.programs import OnLoop, make_lm


# LiteLLM does not await a coroutine of its own when it is cancelled.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine:RuntimeWarning")
@pytest.mark.parametrize("retry_after", [0.01, None])
def test_others_pass_a_call_that_is_always_refused(server: LMServer, retry_after: float | None) -> None:
    server.configure(faults=[{"kind": "429", "match": "never", "retry_after": retry_after}])
    lm = make_lm(server)
    limit(lm, max_in_flight=1, give_up_after=600)

    async def main() -> list[str]:
        with dspy.context(lm=lm):
            program = OnLoop()
            refused = asyncio.create_task(program.acall(question="never"))
            await server.await_for(requests=1)
            others = [asyncio.create_task(program.acall(question=f"item {n}")) for n in range(8)]
            found = await asyncio.wait_for(asyncio.gather(*others), 60)
            assert not refused.done()
            refused.cancel()
            await asyncio.wait([refused])
            if hasattr(lm, "aclose"):
                await lm.aclose()
            return [each.answer for each in found]

    assert len(asyncio.run(main())) == 8
