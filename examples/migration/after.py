"""The same, once."""

from __future__ import annotations

import dspy

from dspy_parallel import async_module


@async_module(overlap=True)
class Article(dspy.Module):
    def __init__(self):
        super().__init__()
        self.outline = dspy.Predict("topic -> headings: list[str]")
        self.write = dspy.ChainOfThought("topic, heading -> section")
        self.title = dspy.Predict("topic -> title")

    def forward(self, topic):
        headings = self.outline(topic=topic).headings
        sections = [self.write(topic=topic, heading=heading).section for heading in headings]
        return dspy.Prediction(title=self.title(topic=topic).title, sections=sections)
