"""Two calls that could overlap, and one that must not be made before a file has been written."""

import dspy

from dspy_parallel import async_module


@async_module
class Report(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> short")

    def forward(self, text):  # flaw: overlap
        parts = [self.predict(text=f"{text} {n}").short for n in range(3)]
        with open("/dev/null", "w") as file:  # flaw: blocking-call  # flaw: in-sequence
            file.write(parts[0])
        return self.predict(text=parts[1])


target = Report
inputs = {"text": "a"}
