"""A checkpointer that has no async side, under async nodes."""

import sqlite3

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph


async def echo(state: dict):
    return state


saver = SqliteSaver(sqlite3.connect(":memory:", check_same_thread=False))
builder = StateGraph(dict).add_node(echo).add_edge(START, "echo")
graph = builder.compile(checkpointer=saver)  # flaw: sync-checkpointer
