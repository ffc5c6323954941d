"""The phase written in a row, as one function of plain data: for `dspy-parallel doctor` and `dspy-parallel compare`.

    dspy-parallel compare examples/level_agent/phase.py:extract --input examples/level_agent/question.json \
        --replay examples/level_agent/latencies.json

The latencies are those of the log in the issue, see `recorded.py`.
"""

from __future__ import annotations

from typing import Any

from .cypher import compose
from .extractors import NonTimePropertyExtractor, TimePropertyExtractor, VectorSearchExtractor
from .graph_schema import LABELS
from .models import GPT_OSS_120B, QWEN3_235B, litellm_lm

__all__ = ["extract"]

time_extractor = TimePropertyExtractor(lm=litellm_lm(f"openrouter/qwen/{QWEN3_235B}"))
nontime_extractor = NonTimePropertyExtractor(lm=litellm_lm(f"openrouter/openai/{GPT_OSS_120B}"))
vector_extractor = VectorSearchExtractor(lm=litellm_lm(f"openrouter/openai/{GPT_OSS_120B}"))


def extract(branch_intent: str, selected_label: str, current_datetime: str) -> dict[str, Any]:
    """Run the three extractors, one after the other, and merge what they found."""
    label = LABELS[selected_label]
    time = time_extractor(
        branch_intent=branch_intent,
        selected_label=selected_label,
        time_properties=label.time_properties,
        current_datetime=current_datetime,
    )
    nontime = nontime_extractor(
        branch_intent=branch_intent, selected_label=selected_label, nontime_properties=label.nontime_properties
    )
    vector = vector_extractor(
        branch_intent=branch_intent, selected_label=selected_label, vector_properties=label.vector_properties
    )
    return {
        "time": time.time_filters,
        "nontime": nontime.property_filters,
        "vector": vector.vector_searches,
        "query": compose(label, time.time_filters, nontime.property_filters, vector.vector_searches),
    }
