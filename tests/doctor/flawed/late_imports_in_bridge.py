"""The same in a decorated module: `sleep`, imported in each run, is the patched one; a database's driver is not."""

import dspy

from dspy_parallel import async_module


@async_module
class Look(dspy.Module):
    def __init__(self):
        import sqlite3

        super().__init__()
        self.predict = dspy.Predict("rows -> answer")
        self.database = sqlite3.connect(":memory:")

    def forward(self, question):
        from time import sleep

        sleep(0.01)
        rows = self.database.execute("select ?", [question])  # flaw: blocking-call
        return self.predict(rows=str(rows))


target = Look
