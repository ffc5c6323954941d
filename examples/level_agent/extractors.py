"""The three extractors of phase 3, as they were before dspy_parallel: sync `forward()`, nothing else.

To run them concurrently, each class gets one line more:

    @async_module
    class TimePropertyExtractor(dspy.Module): ...

`dspy-parallel demo` runs them as they stand, and then with overlap.
"""

from __future__ import annotations

from typing import Any

import dspy

from .filters import PropertyFilter, TimeFilter, VectorSearch

__all__ = ["NonTimePropertyExtractor", "TimePropertyExtractor", "VectorSearchExtractor"]


class ExtractTimeFilters(dspy.Signature):
    """Turn what the intent says about time into filters on the time properties of the label.

    Resolve relative dates against current_datetime; weeks begin on Monday. A period becomes two filters: from its
    first moment, and before the first moment after it. No mention of time gives an empty list.
    """

    branch_intent: str = dspy.InputField(desc="what this part of the question asks for")
    selected_label: str = dspy.InputField(desc="label of the nodes that are asked for")
    time_properties: list[str] = dspy.InputField(desc="the only properties that may be used")
    current_datetime: str = dspy.InputField(desc="ISO 8601")
    time_filters: list[TimeFilter] = dspy.OutputField(desc="all of them must hold")


class ExtractPropertyFilters(dspy.Signature):
    """Turn what the intent says about names, states, numbers and yes-or-no into filters on the label's properties.

    Leave out what is about time, and topics, which are searched by meaning. Where a property lists its values, use
    one of them. Nothing to filter by gives an empty list.
    """

    branch_intent: str = dspy.InputField(desc="what this part of the question asks for")
    selected_label: str = dspy.InputField(desc="label of the nodes that are asked for")
    nontime_properties: list[str] = dspy.InputField(desc="the only properties that may be used, with their types")
    property_filters: list[PropertyFilter] = dspy.OutputField(desc="all of them must hold")


class ExtractVectorSearches(dspy.Signature):
    """Decide whether the intent names a topic that must be searched by meaning, in which property, and for what.

    The query is the topic alone, without names, states and dates. At most one search; no topic gives an empty list.
    """

    branch_intent: str = dspy.InputField(desc="what this part of the question asks for")
    selected_label: str = dspy.InputField(desc="label of the nodes that are asked for")
    vector_properties: list[str] = dspy.InputField(desc="the properties that have a vector index")
    vector_searches: list[VectorSearch] = dspy.OutputField()


class TimePropertyExtractor(dspy.Module):
    """Filters on when something was created, changed, due."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.extractor = dspy.ChainOfThought(ExtractTimeFilters)

    def forward(
        self, branch_intent: str, selected_label: str, time_properties: list[str], current_datetime: str
    ) -> dspy.Prediction:
        with dspy.context(lm=self.lm):
            return self.extractor(
                branch_intent=branch_intent,
                selected_label=selected_label,
                time_properties=time_properties,
                current_datetime=current_datetime,
            )


class NonTimePropertyExtractor(dspy.Module):
    """Filters on everything else that has a value: names, states, numbers."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.extractor = dspy.ChainOfThought(ExtractPropertyFilters)

    def forward(self, branch_intent: str, selected_label: str, nontime_properties: list[str]) -> dspy.Prediction:
        with dspy.context(lm=self.lm):
            return self.extractor(
                branch_intent=branch_intent, selected_label=selected_label, nontime_properties=nontime_properties
            )


class VectorSearchExtractor(dspy.Module):
    """The topic, to be searched by meaning."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        self.lm = lm
        self.extractor = dspy.ChainOfThought(ExtractVectorSearches)

    def forward(self, branch_intent: str, selected_label: str, vector_properties: list[str]) -> dspy.Prediction:
        with dspy.context(lm=self.lm):
            return self.extractor(
                branch_intent=branch_intent, selected_label=selected_label, vector_properties=vector_properties
            )
