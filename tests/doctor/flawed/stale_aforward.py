"""An override of forward() that awaiting passes by."""

import dspy


class Shout(dspy.ChainOfThought):
    def forward(self, **inputs):  # flaw: stale-aforward
        prediction = super().forward(**inputs)
        prediction.answer = prediction.answer.upper()
        return prediction


target = Shout("question -> answer")
