"""Inputs and results as JSON, and back: what JSON has no form for is written as `{"$type": ...}`.

Nothing is pickled: reading a resume file runs no code but the constructors of the classes that it names, and only of
pydantic models, dataclasses and enums.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import hashlib
import json
import pathlib
import re
import sys
import uuid
from collections.abc import Callable
from typing import Any

import dspy
import numpy
import pydantic

from ..errors import BatchInputError, ResumeError

__all__ = ["decode", "encode", "fingerprint"]

_AS_TEXT: dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]] = {
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
    datetime.datetime: ("$datetime", datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: ("$date", datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: ("$time", datetime.time.isoformat, datetime.time.fromisoformat),
    decimal.Decimal: ("$decimal", str, decimal.Decimal),
    uuid.UUID: ("$uuid", str, uuid.UUID),
}
_FROM_TEXT = {name: read for name, _, read in _AS_TEXT.values()}
_CLASS_PATH = re.compile(r"[\w.]+:[\w.]+")


class _NoForm(Exception):
    """There is no JSON for a value; says which and where."""


def fingerprint(index: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """16 bytes that tell a program's inputs from others.

    Raises:
        BatchInputError: If the inputs cannot be serialised.
    """
    try:
        text = json.dumps(_encode([list(args), kwargs], "inputs", is_input=True), sort_keys=True)
    except (_NoForm, RecursionError) as exc:
        raise BatchInputError(
            f"Example {index} cannot be serialised: {exc}. A resume file recognises examples by their content. Give "
            "text, numbers, lists, dicts, dates, pydantic models or the like, or leave out resume=."
        ) from exc
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def encode(index: int, result: Any) -> Any:
    """JSON from which `decode()` makes an equal result.

    Raises:
        ResumeError: If there is no such JSON.
    """
    try:
        return _encode(result, "result", is_input=False)
    except (_NoForm, RecursionError) as exc:
        raise ResumeError(
            f"The result for example {index} cannot be written to the resume file: {exc}. Return text, numbers, lists, "
            "dicts, dates, pydantic models at the top level of a module, or a dspy.Prediction of these."
        ) from exc


def _encode(value: Any, where: str, *, is_input: bool) -> Any:
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value

    def inner(part: Any, name: object) -> Any:
        return _encode(part, f"{where}.{name}", is_input=is_input)

    if kind is list:
        return [inner(part, number) for number, part in enumerate(value)]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: inner(part, key) for key, part in value.items()}
        return {"$dict": [[inner(key, "key"), inner(part, repr(key))] for key, part in value.items()]}
    if kind is tuple:
        return {"$tuple": [inner(part, number) for number, part in enumerate(value)]}
    if kind in (set, frozenset):
        return {f"${kind.__name__}": sorted((inner(part, "element") for part in value), key=json.dumps)}
    for known, (name, write, _) in _AS_TEXT.items():
        # A pandas Timestamp, for instance, is a datetime.
        if kind is known or (is_input and isinstance(value, known)):
            return {name: write(value)}
    if isinstance(value, numpy.generic):
        return inner(value.item(), kind.__name__)
    if kind is dspy.Prediction:
        completions = value.completions
        return {
            "$prediction": inner(dict(value.items()), "fields"),
            "completions": None if completions is None else inner(dict(completions.items()), "completions"),
            "usage": inner(value.get_lm_usage(), "usage"),
        }
    if kind is dspy.Example:
        keys = getattr(value, "_input_keys", None)
        return {"$example": inner(dict(value.items()), "fields"), "inputs": None if keys is None else sorted(keys)}
    if isinstance(value, enum.Enum):
        return {"$enum": _path(kind, where), "name": value.name}
    if isinstance(value, pydantic.BaseModel):
        data = value.model_dump(mode="json", round_trip=True)
        if not is_input and _model(kind, data) != value:
            raise _NoForm(f"{where} is a {kind.__qualname__}, which its own JSON does not give again")
        return {"$model": _path(kind, where, check=not is_input), "data": data}
    if dataclasses.is_dataclass(kind):
        fields = {each.name: inner(getattr(value, each.name), each.name) for each in dataclasses.fields(kind)}
        return {"$dataclass": _path(kind, where, check=not is_input), "data": fields}
    if is_input and isinstance(value, (str, int, float, pathlib.PurePath)):
        return {"$subclass": kind.__qualname__, "text": str(value)}
    raise _NoForm(f"{where} is of type {kind.__module__}.{kind.__qualname__}")


def _path(kind: type, where: str, *, check: bool = True) -> str:
    path = f"{kind.__module__}:{kind.__qualname__}"
    if check and ("<" in path or _find(path) is not kind):
        raise _NoForm(f"{where} is a {kind.__qualname__}, which is not found under that name in {kind.__module__}")
    return path


def _find(path: str) -> Any:
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)  # a file does not decide what is imported
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _model(kind: type[pydantic.BaseModel], data: Any) -> Any:
    try:
        return kind.model_validate_json(json.dumps(data))
    except pydantic.ValidationError:
        return None


def decode(value: Any) -> Any:
    """What `encode()` has written."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, dict):
        return value
    form: dict[str, Any] = value
    mark = next((key for key in form if key.startswith("$")), None)
    if mark is None:
        return {key: decode(part) for key, part in form.items()}
    return _decode_marked(mark, form)


def _decode_marked(mark: str, form: dict[str, Any]) -> Any:
    content = form[mark]
    if mark in _FROM_TEXT:
        return _FROM_TEXT[mark](content)
    if mark == "$dict":
        return {decode(key): decode(part) for key, part in content}
    if mark in ("$tuple", "$set", "$frozenset"):
        return {"$tuple": tuple, "$set": set, "$frozenset": frozenset}[mark](decode(content))
    if mark == "$prediction":
        prediction: Any = dspy.Prediction(**decode(content))
        if form["completions"] is not None:
            prediction = dspy.Prediction.from_completions(decode(form["completions"]))
            prediction._store = decode(content)
        prediction.set_lm_usage(decode(form["usage"]))
        return prediction
    if mark == "$example":
        example = dspy.Example(**decode(content))
        return example if form["inputs"] is None else example.with_inputs(*form["inputs"])
    kind = _find(content)
    if mark == "$enum" and isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind[form["name"]]
    if mark == "$model" and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return kind.model_validate_json(json.dumps(form["data"]))
    if mark == "$dataclass" and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        data = {name: decode(part) for name, part in form["data"].items()}
        names = {each.name for each in dataclasses.fields(kind) if each.init}
        made = kind(**{name: part for name, part in data.items() if name in names})
        for name in data.keys() - names:
            object.__setattr__(made, name, data[name])
        return made
    named = f" ({content})" if isinstance(content, str) and _CLASS_PATH.fullmatch(content) else ""
    raise ResumeError(
        f"The resume file has a value of form {mark}{named}, which is not known here. Import the module that defines "
        "the class before you resume, or use another file."
    )
