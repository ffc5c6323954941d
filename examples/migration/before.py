"""As people write it today: the same program twice."""

from __future__ import annotations

import asyncio

import dspy


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

    async def aforward(self, topic):
        async def body():
            headings = (await self.outline.acall(topic=topic)).headings
            written = await asyncio.gather(*(self.write.acall(topic=topic, heading=heading) for heading in headings))
            return [each.section for each in written]

        title, sections = await asyncio.gather(self.title.acall(topic=topic), body())
        return dspy.Prediction(title=title.title, sections=sections)
