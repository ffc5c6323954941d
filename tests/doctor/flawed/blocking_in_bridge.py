"""A decorated module with calls that no seam suspends."""

import os
import queue
import sqlite3
from time import sleep

import dspy

from dspy_parallel import async_module

waiting = queue.Queue()


@async_module
class Look(dspy.Module):
    def __init__(self, path=":memory:"):
        super().__init__()
        self.database = sqlite3.connect(path)
        self.predict = dspy.Predict("rows -> answer")

    def forward(self, question):
        rows = self.rows(question)
        os.system("true")  # flaw: blocking-call
        sleep(0.01)  # flaw: blocking-call
        waiting.get()  # flaw: blocking-call
        return self.predict(rows=rows)

    def rows(self, question):
        return self.database.execute("select ?", [question]).fetchall()  # flaw: blocking-call


target = Look
