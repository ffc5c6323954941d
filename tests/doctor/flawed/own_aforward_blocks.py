"""An aforward() written in a hurry: its second call, and one in a helper, block the loop."""

import dspy


class Review(dspy.Module):
    def __init__(self):
        super().__init__()
        self.summarize = dspy.ChainOfThought("text -> summary")
        self.rate = dspy.Predict("summary -> rating")
        self.judges = [dspy.Predict("summary -> verdict") for _ in range(3)]

    def forward(self, text):
        return self.rate(summary=self.summarize(text=text).summary)

    async def aforward(self, text):
        summary = (await self.summarize.acall(text=text)).summary
        self.judge(summary)
        return self.rate(summary=summary)  # flaw: blocks-loop

    def judge(self, summary):
        return [judge(summary=summary) for judge in self.judges]  # flaw: blocks-loop


target = Review
