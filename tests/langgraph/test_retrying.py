"""Which errors a node is tried again after."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import httpx
import litellm
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import RetryPolicy
from typing_extensions import TypedDict

from dspy_parallel.langgraph import parallelize_graph, retry_on
from dspy_parallel.testing import LMServer


def _litellm(name: str, **extra: Any) -> Exception:
    cls = getattr(litellm.exceptions, name)
    arguments = {"message": "m", "model": "m", "llm_provider": "openai", **extra}
    return cls(**arguments)


RESPONSE = httpx.Response(400, request=httpx.Request("POST", "http://localhost"))

RETRIED = [
    _litellm("RateLimitError"),
    _litellm("Timeout"),
    _litellm("APIConnectionError"),
    _litellm("InternalServerError"),
    _litellm("ServiceUnavailableError"),
    ConnectionError(),
    ConnectionResetError(),
    TimeoutError(),
    asyncio.TimeoutError(),
]
FINAL = [
    _litellm("AuthenticationError"),
    _litellm("BadRequestError"),
    _litellm("NotFoundError"),
    _litellm("ContextWindowExceededError"),
    _litellm("ContentPolicyViolationError"),
    _litellm("PermissionDeniedError", response=RESPONSE),
    ValueError(),
    TypeError(),
    FileNotFoundError(),
]


def _dspys(*names: str) -> list[Exception]:
    """DSPy's own errors, which came with 3.3."""
    found = [getattr(dspy.utils.exceptions, name, None) for name in names]
    return [cls("m") for cls in found if cls is not None]


def test_retried() -> None:
    for exc in RETRIED + _dspys("LMRateLimitError", "LMTimeoutError", "LMServerError", "LMTransportError"):
        assert retry_on(exc), exc


def test_final() -> None:
    own = _dspys("LMAuthError", "LMInvalidRequestError", "LMNotConfiguredError", "LMBillingError")
    for exc in FINAL + own:
        assert not retry_on(exc), exc


class State(TypedDict, total=False):
    out: str


@pytest.mark.parametrize(("fault", "attempts"), [("500", 3), ("429", 3), ("401", 1), ("400", 1), ("context_length", 1)])
def test_in_a_policy(server: LMServer, fault: str, attempts: int) -> None:
    """As many attempts as the policy allows for what may pass, and one for what will not."""
    calls = []

    def node(state: State) -> Any:
        calls.append(1)
        return {"out": dspy.Predict("question -> answer")(question="?").answer}

    policy = RetryPolicy(max_attempts=3, initial_interval=0.001, jitter=False, retry_on=retry_on)
    builder = StateGraph(State).add_node("node", node, retry_policy=policy).add_edge(START, "node")
    graph = parallelize_graph(builder).compile()
    server.configure(faults=[{"kind": fault}])
    lm = dspy.LM("openai/any", cache=False, num_retries=0, **server.lm_kwargs())
    with dspy.context(lm=lm), pytest.raises(Exception, match=r".+"):
        asyncio.run(graph.ainvoke({}))
    assert len(calls) == attempts
