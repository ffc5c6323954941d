"""Containers that calls return: what changes them waits for what reads them, though they came into being late."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.overlap.generated.running import run_both
from tests.overlap.observing import assert_same

HEAD = """
import dspy

LOG = []


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.rate = dspy.Predict("question -> answer, score: float, good: bool")
        self.listing = dspy.Predict("question -> answer, parts: list[str], count: int")
        self.informed = dspy.Predict("context: list[str], question -> answer")

    def bump(self):
        LOG.append("bump")

    def forward(self, text):
"""

BODIES = {
    "lists_of_lists": """
        rows = [["a"], ["b"]]
        for row in rows:
            if self.rate(question=f"r{row[0]}").score > -1:
                row.append("x")
        found = self.informed(context=rows[0], question="q").answer
        return dspy.Prediction(found=found)    """,
    "a_result_in_a_list_of_lists": """
        rows = [self.listing(question='river').parts, ["b"]]
        for row in rows:
            if self.rate(question=f"r{row[0]}").score > -1:
                row.append("x")
        found = self.informed(context=rows[0], question="q").answer
        return dspy.Prediction(found=found)    """,
    "a_result_in_a_dict": """
        rows = {"a": self.listing(question='river').parts}
        same = rows["a"]
        if self.rate(question="r").score > -1:
            rows["a"].append("x")
        found = self.informed(context=same, question="q").answer
        return dspy.Prediction(found=found)    """,
    "a_helper_that_appends": """
        def grow(what):
            if self.rate(question="r").score > -1:
                what.append("x")
        parts = self.listing(question='river').parts
        grow(parts)
        found = self.informed(context=parts, question="q").answer
        return dspy.Prediction(found=found)    """,
    "appended_before_it_is_read": """
        parts = self.listing(question='river').parts
        if self.rate(question="r").score > -1:
            parts.append("x")
        found = self.informed(context=parts, question="q").answer
        return dspy.Prediction(found=found)    """,
    "appended_by_another_name": """
        parts = self.listing(question='river').parts
        other = parts
        for i in range(2):
            if self.rate(question=f"r{i}").score > -1:
                other.append("x")
        found = self.informed(context=parts, question="q").answer
        return dspy.Prediction(found=found)    """,
    "two_attributes_appended": """
        made = self.listing(question='river')
        a, b = made.parts, made.parts
        if self.rate(question="r").score > -1:
            a.append("x")
        found = self.informed(context=b, question="q").answer
        return dspy.Prediction(found=found)    """,
    "two_attributes_an_item": """
        made = self.listing(question='river')
        a, b = made.parts, made.parts
        if self.rate(question="r").score > -1:
            a[0] = "x"
        found = [self.ask(question=e).answer for e in b]
        return dspy.Prediction(found=found)    """,
    "appended_twice": """
        parts = self.listing(question='river').parts
        if self.rate(question="r").score > -1:
            parts.append("x")
        parts.append("y")
        found = self.informed(context=parts, question="q").answer
        return dspy.Prediction(found=found)    """,
    "an_attribute_before_it_is_read": """
        made = self.listing(question='river')
        if self.rate(question="r").score > -1:
            made.parts = ["z"]
        found = self.informed(context=made.parts, question="q").answer
        return dspy.Prediction(found=found)    """,
    "a_slice_appended_by_another_name": """
        parts = self.listing(question='river').parts[:2]
        same = parts
        if self.rate(question="r").score > -1:
            same.append("x")
        found = [self.ask(question=each).answer for each in parts]
        return dspy.Prediction(parts=parts, found=found)    """,
}

READ_BEFORE = """
        made = self.listing(question='river')
        parts = made.parts
        for i in range(2):
            if self.rate(question=f"r{i}").score > -1:
                self.informed(context=parts, question=f"q{i}")
        {change}
        return dspy.Prediction(parts=made.parts)    """
CHANGES = ["parts.reverse()", "parts.sort(reverse=True)", "parts += ['new']", "parts[0] = 'new'"]
CHANGES += ["made.parts.append('z')", "made.parts = ['z']"]
BODIES |= {change: READ_BEFORE.format(i="{i}", change=change) for change in CHANGES}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_changed_in_turn(body: str, tmp_path: Path) -> None:
    """Same result with the same LM calls: none is made with what the container holds at another time."""
    seen = run_both(HEAD + body, tmp_path)
    assert seen is not None
    sequential, overlapped = seen
    assert_same(sequential, overlapped)
    assert overlapped.seconds <= overlapped.sequentially
