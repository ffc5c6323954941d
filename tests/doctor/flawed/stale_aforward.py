"""An override of forward() that awaiting passes by."""

import dspy


class Shout(dspy.ChainOfThought):
    def forward(self, **inputs):  # flaw: stale-aforward
        return super().forward(**inputs)
