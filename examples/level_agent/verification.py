"""The two verification tests of the issue, on the loopback server: no key, no network.

python -m examples.level_agent.verification                from a checkout
python -m dspy_parallel.demo.level_agent.verification      where the package is installed
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

# Before LiteLLM is imported: it would fetch a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer

from . import extractors, models, recorded
from .graph_schema import LABELS

# Where the classes are yours, write @async_module above them instead.
TimePropertyExtractor = async_module(extractors.TimePropertyExtractor)
NonTimePropertyExtractor = async_module(extractors.NonTimePropertyExtractor)
VectorSearchExtractor = async_module(extractors.VectorSearchExtractor)


async def confirm_async_conversion(lms: dict[str, Any]) -> Any:
    """Test 1: a module that has only `forward()` can be awaited."""
    extractor = TimePropertyExtractor(lm=lms[models.QWEN3_235B])
    return await extractor.acall(
        branch_intent="test",
        selected_label="Idea",
        time_properties=["created_at"],
        current_datetime="2025-12-12T00:00:00Z",
    )


async def verify_parallel_execution(lms: dict[str, Any], question: Any) -> tuple[float, tuple[Any, ...]]:
    """Test 2: three extractors awaited together take as long as the slowest of them."""
    extractor1 = TimePropertyExtractor(lm=lms[models.QWEN3_235B])
    extractor2 = NonTimePropertyExtractor(lm=lms[models.GPT_OSS_120B])
    extractor3 = VectorSearchExtractor(lm=lms[models.GPT_OSS_120B])
    label = LABELS[question.selected_label]
    shared = {"branch_intent": question.branch_intent, "selected_label": question.selected_label}

    start = time.perf_counter()
    results = await asyncio.gather(
        extractor1.acall(**shared, time_properties=label.time_properties, current_datetime=question.current_datetime),
        extractor2.acall(**shared, nontime_properties=label.nontime_properties),
        extractor3.acall(**shared, vector_properties=label.vector_properties),
    )
    return time.perf_counter() - start, results


# What a model makes of the intent "test".
_REPLY_TO_TEST = {
    "match": r"\[\[ ## branch_intent ## \]\]\ntest\n",
    "fields": {"reasoning": "The intent says nothing about time.", "time_filters": []},
}


def main() -> int:
    """Run both; 0 if they hold."""
    recording = recorded.load()
    slowest = max(recording.latency_seconds.values())
    in_sequence = sum(recording.latency_seconds.values())
    with LMServer(replies=[*recording.rules(), _REPLY_TO_TEST]) as server:
        lms = {
            name: models.litellm_lm(f"openai/{name}", **server.lm_kwargs())
            for name in (models.QWEN3_235B, models.GPT_OSS_120B)
        }

        async def both() -> None:
            result = await confirm_async_conversion(lms)
            print(f"Test 1. Result: {result}")
            # No reply is sent before all three requests are there: calls in sequence would not get past the first.
            server.configure(gate=len(recording.latency_seconds))
            # The first test has imported LiteLLM, so the clock measures calls only.
            duration, results = await verify_parallel_execution(lms, recording.questions[0])
            print(f"Test 2. Duration: {duration:.2f}s (should be ~{slowest:.1f}s, not ~{in_sequence:.1f}s)")
            for result in results:
                print(f"Result: {result}")

        asyncio.run(both())
        # The server tells, not the clock, which shows the machine, too.
        holds = server.stats().peak_in_flight == len(recording.latency_seconds)
    print("Both hold." if holds else "The calls did not overlap.")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
