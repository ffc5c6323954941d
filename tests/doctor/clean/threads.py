"""A program that blocks, and says so."""

import sqlite3
import threading

import dspy

from dspy_parallel import async_module


@async_module(engine="thread")
class Look(dspy.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.RLock()
        self.predict = dspy.Predict("rows -> answer")

    def forward(self, question):
        rows = sqlite3.connect(":memory:").execute("select ?", [question]).fetchall()
        with self.lock:
            return self.predict(rows=str(rows))


target = Look
