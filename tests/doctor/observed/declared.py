"""A function that is declared pure is no predictor call."""

import dspy

from dspy_parallel import pure

inputs = {"text": "a"}


@pure
def shouted(text):
    return text.upper()


class Twice(dspy.Module):  # flaw: forward-only
    def __init__(self):
        super().__init__()
        self.one, self.other = dspy.Predict("text -> short"), dspy.Predict("text -> short")

    def forward(self, text):  # flaw: overlap
        return self.one(text=shouted(text)).short + self.other(text=shouted(text)).short


target = Twice
