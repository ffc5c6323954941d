"""A program that blocks, and says so: all of a run is in one thread."""

import sqlite3
import threading

import dspy

from dspy_parallel import async_module


@async_module(engine="thread")
class Look(dspy.Module):
    lock = threading.RLock()

    def forward(self, question):
        rows = sqlite3.connect(":memory:").execute("select ?", [question]).fetchall()
        with self.lock:
            return dspy.Predict("rows -> answer")(rows=str(rows))
