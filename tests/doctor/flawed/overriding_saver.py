"""A checkpointer whose own put() is passed by under ainvoke."""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict


class State(TypedDict, total=False):
    text: str


class AuditedSaver(InMemorySaver):
    def put(self, config, checkpoint, metadata, new_versions):
        print(checkpoint["id"])
        return super().put(config, checkpoint, metadata, new_versions)


def echo(state: State):
    return state


target = (
    StateGraph(State)
    .add_node(echo)
    .add_edge(START, "echo")
    .compile(checkpointer=AuditedSaver())  # flaw: sync-checkpointer
)
