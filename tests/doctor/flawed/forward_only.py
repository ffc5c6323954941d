"""A module that can be called and not awaited."""

import dspy


class Answer(dspy.Module):  # flaw: forward-only
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)


target = Answer
