"""A forward() that nobody can run to its end."""

import dspy


class Stream(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> part")

    def forward(self, text):  # flaw: not-awaitable
        for word in text.split():
            yield self.predict(text=word)


target = Stream
