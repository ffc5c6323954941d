"""An aforward() as it should be written by hand."""

import asyncio

import dspy


class Extract(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predictors = {name: dspy.Predict(f"text -> {name}") for name in ("time", "other", "vector")}

    def forward(self, text):
        return [predict(text=text) for predict in self.predictors.values()]

    async def aforward(self, text):
        return await asyncio.gather(*[predict.acall(text=text) for predict in self.predictors.values()])
