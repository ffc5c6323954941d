"""The language models of the extractors."""

from __future__ import annotations

import inspect
from typing import Any

import dspy

__all__ = ["GPT_OSS_120B", "QWEN3_235B", "litellm_lm"]

QWEN3_235B = "qwen3-235b-a22b-instruct"
GPT_OSS_120B = "gpt-oss-120b"


def litellm_lm(model: str, **kwargs: Any) -> Any:
    """A `dspy.LM` that calls its provider through LiteLLM, uncached, so that every call is a request.

    Args:
        model: A model name as LiteLLM knows it, such as `openrouter/openai/gpt-oss-120b`.
        **kwargs: For `dspy.LM`: `api_base`, `api_key` and so on.
    """
    # LiteLLM is the only way to a provider up to DSPy 3.3; from 3.4 on it is one of several.
    if "engine" in inspect.signature(dspy.LM.__init__).parameters:
        kwargs.setdefault("engine", "litellm")
    return dspy.LM(model, cache=False, temperature=0.0, **kwargs)
