"""DSPy's variety across versions: engines, adapters, and signatures of all types."""

# ruff: noqa: UP045 - what typing.Optional and typing.Union make is part of what is tested

from __future__ import annotations

import enum
import inspect
from typing import Any, Literal, Optional

import dspy
import pydantic
import pytest

from dspy_parallel.testing import LMServer

VERSION = tuple(int(part) for part in dspy.__version__.split(".")[:2])
ENGINES = ("lm15", "litellm") if VERSION >= (3, 4) else (None,)
"""3.4 has an engine of its own beside LiteLLM."""
ADAPTERS = ("ChatAdapter", "JSONAdapter", "XMLAdapter")


def make_lm(server: LMServer, engine: str | None, **more: Any) -> dspy.LM:
    """An LM at the server, without cache and retries."""
    options = {"cache": False, "num_retries": 0, "max_tokens": 1000, **more}
    if engine is not None:
        options["engine"] = engine
    return dspy.LM(options.pop("model", "openai/any-model"), **server.lm_kwargs(), **options)


def make_adapter(name: str, **more: Any) -> Any:
    """An adapter that does not fall back to JSON, where it can be told."""
    adapter = getattr(dspy, name)
    if name in ("ChatAdapter", "XMLAdapter") and "use_json_adapter_fallback" in inspect.signature(adapter).parameters:
        more["use_json_adapter_fallback"] = False
    return adapter(**more)


def need_litellm_tools(engine: str | None) -> None:
    """Skip where LiteLLM fails at any request with tools or to the Responses API, for its own lack of imports."""
    if engine == "lm15":
        return
    try:
        import litellm.responses.mcp.litellm_proxy_mcp_handler  # noqa: F401
    except ImportError as error:
        pytest.skip(f"this LiteLLM does not work with the installed mcp: {error}")


class Color(enum.Enum):
    """An enum by value."""

    RED = "red"
    GREEN = "green"


class Author(pydantic.BaseModel):
    """A small model."""

    name: str
    age: int


class Person(pydantic.BaseModel):
    """A model with constraints."""

    name: str = pydantic.Field(max_length=5)
    age: int = pydantic.Field(ge=18, le=99)
    emails: list[str] = pydantic.Field(min_length=3)


class Tree(pydantic.BaseModel):
    """A recursive model."""

    label: str
    children: list[Tree] = []


class Book(pydantic.BaseModel):
    """A model of many parts."""

    title: str
    authors: list[Author]
    price: float
    sold: bool
    pages: Optional[int] = None


class Shelf(pydantic.BaseModel):
    """A model whose members are chosen from sets."""

    kind: Literal["novel", "atlas"]
    color: Color
    owner: Author
    notes: dict[str, int]


TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "literal": Literal["yes", "no", 'a "quote"'],
    "enum": Color,
    "list": list[str],
    "ints": list[int],
    "dict": dict[str, int],
    "dict_of_lists": dict[str, list[str]],
    "optional_str": Optional[str],
    "optional_int": Optional[int],
    "model": Book,
    "constrained": Person,
    "model_of_choices": Shelf,
    "models": list[Author],
    "tree": Tree,
    "optional_model": Optional[Author],
    "tuple": tuple[int, str],
    "union": int | list[str],
}


FLAT = "str", "int", "float", "bool", "literal", "enum", "list", "optional_str"
"""What can be written between XML tags without knowing more of the type than XMLAdapter tells."""


def cannot(adapter: str, kind: str) -> str | None:
    """Why a type cannot be answered under an adapter."""
    if adapter == "XMLAdapter" and VERSION >= (3, 3) and kind not in FLAT:
        return "the nested XML template names neither types nor choices"
    return None
