"""One connection of a module, and a cursor of everybody's, in a stock graph as well."""

import sqlite3

import dspy
from langgraph.graph import START, StateGraph

from dspy_parallel import async_module

cursor = sqlite3.connect(":memory:").cursor()


@async_module
class Look(dspy.Module):
    def __init__(self):
        super().__init__()
        self.database = sqlite3.connect(":memory:")

    def forward(self, question):
        return self.rows(question)

    def rows(self, question):
        return self.database.execute("select ?", [question]).fetchall()  # flaw: thread-bound


def look(state: dict):
    cursor.execute("select 1")  # flaw: thread-bound


builder = StateGraph(dict).add_node(look).add_edge(START, "look")
