"""A checkpointer that has no async side under a graph that has async nodes."""

import sqlite3

from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


async def echo(state: State):
    return state


saver = SqliteSaver(sqlite3.connect(":memory:", check_same_thread=False))
target = StateGraph(State).add_node(echo).add_edge(START, "echo").compile(checkpointer=saver)  # flaw: sync-checkpointer
