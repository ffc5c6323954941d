"""An aforward() that awaits a submodule which has none."""

import dspy


class Inner(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> title")

    def forward(self, text):
        return self.predict(text=text)


class Outer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    async def aforward(self, text):
        return await self.inner.acall(text=text)  # flaw: awaits-forward-only


target = Outer()
