"""Async nodes that call a graph, a chat model and a database synchronously."""

import sqlite3

from langchain_core.language_models import FakeListChatModel
from langgraph.graph import START, StateGraph

inner = StateGraph(dict).add_node("shorten", lambda state: state).add_edge(START, "shorten").compile()
model = FakeListChatModel(responses=["yes"])


async def ask(state: dict):
    state = inner.invoke(state)  # flaw: blocks-loop
    return {"text": model.invoke(state["text"]).content}  # flaw: blocks-loop


async def store(state: dict):
    with sqlite3.connect(":memory:") as connection:  # flaw: blocks-loop
        connection.execute("select ?", [state["text"]])  # flaw: blocks-loop


graph = StateGraph(dict).add_node(ask).add_node(store).add_edge(START, "ask").add_edge("ask", "store").compile()
