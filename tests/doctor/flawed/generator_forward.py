"""A forward() that nobody can run to its end."""

import dspy


class Stream(dspy.Module):
    def forward(self, text):  # flaw: not-awaitable
        yield dspy.Predict("text -> part")(text=text)
