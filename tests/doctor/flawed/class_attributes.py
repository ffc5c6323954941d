"""A connection that all instances share, as an attribute of the class, and a cursor on it."""

import sqlite3

import dspy

from dspy_parallel import async_module


@async_module
class Look(dspy.Module):
    database = sqlite3.connect(":memory:")

    def forward(self, question):
        cursor = self.database.cursor()  # flaw: thread-bound
        cursor.execute("select ?", [question])  # flaw: blocking-call
        return cursor.fetchall()  # flaw: blocking-call
