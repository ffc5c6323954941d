"""The questions, and what the loopback server needs to answer them as fast and as slow as the models did.

The latencies are those of the log in the issue. The program's three HTTP requests are logged there at 16.321, 17.047
and 18.172 s, and the phase lasts from 15.066 to 19.325 s:

    time       15.066 -> 16.321               1.255 s
    non-time   16.321 -> 17.047               0.726 s
    vector     17.047 -> 18.172 -> 19.325     2.278 s   (response began, response read to its end)

httpx writes its "HTTP Request" line when the response's headers are there. So the first two lines fall together with
the end of their calls, and what follows the third still belongs to it. This reading accounts for the whole 4.259 s,
and its longest call is the "~2.3 s, longest single request" that the issue expects of a parallel run.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .agent import Question

__all__ = ["Recording", "load"]

# The input field by which a prompt shows whose it is.
_INPUTS = {"time": "time_properties", "non-time": "nontime_properties", "vector": "vector_properties"}


@dataclass(frozen=True)
class Recording:
    """Questions with their replies and latencies."""

    questions: list[Question]
    latency_seconds: dict[str, float]
    replies: list[dict[str, dict[str, Any]]]
    """For each question, each extractor's output fields."""

    def rules(self, scale: float = 1.0) -> list[dict[str, Any]]:
        """The `replies` option of `LMServer`: one rule for each question and extractor.

        Args:
            scale: Multiplies the latencies.
        """
        return [
            {
                "match": rf"(?=.*\[\[ ## {_INPUTS[extractor]} ## \]\])(?=.*{re.escape(question.branch_intent)})",
                "fields": fields,
                "latency": self.latency_seconds[extractor] * scale,
            }
            for question, replies in zip(self.questions, self.replies, strict=True)
            for extractor, fields in replies.items()
        ]


def load() -> Recording:
    """Read `recorded.json`."""
    data = json.loads(Path(__file__).with_name("recorded.json").read_text(encoding="utf-8"))
    questions = [
        Question(q["question"], q["branch_intent"], q["selected_label"], data["current_datetime"])
        for q in data["questions"]
    ]
    return Recording(questions, data["latency_seconds"], [q["replies"] for q in data["questions"]])
