"""A module that can be called and not awaited, and one that awaits it."""

import dspy


class Inner(dspy.Module):  # flaw: forward-only
    def forward(self, text):
        return dspy.Predict("text -> title")(text=text)


class Outer(dspy.Module):
    def __init__(self):
        self.inner = Inner()

    async def aforward(self, text):
        return await self.inner.acall(text=text)  # flaw: awaits-forward-only
