"""Phase 3 of the level agent: run the three extractors on one question and merge what they found."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from .cypher import CypherQuery, compose
from .extractors import NonTimePropertyExtractor, TimePropertyExtractor, VectorSearchExtractor
from .filters import PropertyFilter, TimeFilter, VectorSearch
from .graph_schema import LABELS

__all__ = ["EXTRACTORS", "Extraction", "LevelAgent", "Question"]

EXTRACTORS = {
    "time": TimePropertyExtractor,
    "non-time": NonTimePropertyExtractor,
    "vector": VectorSearchExtractor,
}


@dataclass(frozen=True)
class Question:
    """A question, with what phases 1 and 2 of the agent have made of it."""

    text: str
    branch_intent: str
    selected_label: str
    current_datetime: str


@dataclass(frozen=True)
class Extraction:
    """What the extractors found, and the query made of it."""

    time_filters: list[TimeFilter]
    property_filters: list[PropertyFilter]
    vector_searches: list[VectorSearch]
    query: CypherQuery


class LevelAgent:
    """Finds the nodes of one level of the graph.

    Args:
        qwen3_235b: The LM of the time extractor.
        gpt_oss_120b: The LM of the two others.
    """

    def __init__(self, qwen3_235b: Any, gpt_oss_120b: Any) -> None:
        self.time = TimePropertyExtractor(lm=qwen3_235b)
        self.nontime = NonTimePropertyExtractor(lm=gpt_oss_120b)
        self.vector = VectorSearchExtractor(lm=gpt_oss_120b)

    @property
    def extractors(self) -> dict[str, Any]:
        """The three, by name."""
        return {"time": self.time, "non-time": self.nontime, "vector": self.vector}

    def extract(self, question: Question) -> Extraction:
        """As it was: one extractor after the other, each blocking until its answer is there."""
        time, nontime, vector = self._inputs(question)
        return self._merge(question, self.time(**time), self.nontime(**nontime), self.vector(**vector))

    async def extract_in_parallel(self, question: Question) -> Extraction:
        """With `@async_module` on the extractors: the same, with the three LM calls in flight at once."""
        time, nontime, vector = self._inputs(question)
        found = await asyncio.gather(
            self.time.acall(**time), self.nontime.acall(**nontime), self.vector.acall(**vector)
        )
        return self._merge(question, *found)

    def _inputs(self, question: Question) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        label = LABELS[question.selected_label]
        shared = {"branch_intent": question.branch_intent, "selected_label": question.selected_label}
        return (
            {**shared, "time_properties": label.time_properties, "current_datetime": question.current_datetime},
            {**shared, "nontime_properties": label.nontime_properties},
            {**shared, "vector_properties": label.vector_properties},
        )

    def _merge(self, question: Question, time: Any, nontime: Any, vector: Any) -> Extraction:
        query = compose(
            LABELS[question.selected_label], time.time_filters, nontime.property_filters, vector.vector_searches
        )
        return Extraction(time.time_filters, nontime.property_filters, vector.vector_searches, query)
