"""A checkpointer whose own put() is passed by under ainvoke."""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph


class AuditedSaver(InMemorySaver):
    def put(self, config, checkpoint, metadata, new_versions):
        return super().put(config, checkpoint, metadata, new_versions)


def echo(state: dict):
    return state


builder = StateGraph(dict).add_node(echo).add_edge(START, "echo")
graph = builder.compile(checkpointer=AuditedSaver())  # flaw: sync-checkpointer
