"""An aforward() written in a hurry: its second call, and one in a helper, block the loop."""

import dspy


class Review(dspy.Module):
    def __init__(self):
        super().__init__()
        self.rate = dspy.Predict("summary -> rating")
        self.judges = []
        for _ in range(3):
            self.judges.append(dspy.Predict("summary -> verdict"))

    async def aforward(self, text):
        self.judge((await self.rate.acall(summary=text)).rating)
        return self.rate(summary=text)  # flaw: blocks-loop

    def judge(self, summary):
        return [judge(summary=summary) for judge in self.judges]  # flaw: blocks-loop
