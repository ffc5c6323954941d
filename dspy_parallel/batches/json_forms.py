"""Results as JSON, and back: what JSON has no form for is written as `{"$type": ...}`.

Nothing is pickled: reading a resume file runs no code but the constructors of the classes that it names, and only of
pydantic models, dataclasses and enums.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import re
import sys
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

import dspy
import pydantic

from ..errors import ResumeError

__all__ = ["decode", "encode"]

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


def encode(index: int, result: Any) -> Any:
    """JSON from which `decode()` makes an equal result.

    Raises:
        ResumeError: If there is no such JSON.
    """
    try:
        return _encode(result, "result")
    except Exception as exc:
        why = exc if isinstance(exc, _NoForm) else type(exc).__name__
        raise ResumeError(
            f"The result for example {index} cannot be written to the resume file: {why}. Return text, numbers, lists, "
            "dicts, dates, pydantic models at the top level of a module, or a dspy.Prediction of these."
        ) from exc


def _encode(value: Any, where: str) -> Any:
    kind: Any = type(value)
    if value is None or kind in (bool, int, float, str):
        return value

    def inner(part: Any, name: object) -> Any:
        return _encode(part, f"{where}.{name}")

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
        if kind is known and _is_in_its_text(value):
            return {name: write(value)}
    numpy = sys.modules.get("numpy")  # where nobody has imported it, nothing is of it
    if numpy is not None and isinstance(value, numpy.generic):
        return inner(value.item(), kind.__name__)
    if (local := _local(value)) is not None:
        return local
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
        if value.name not in kind.__members__:
            raise _NoForm(f"{where} is a {kind.__qualname__} without a name")
        return {"$enum": _path(kind, where), "name": value.name}
    if isinstance(value, pydantic.BaseModel):
        data = value.model_dump(mode="json", round_trip=True)
        if _model(kind, data) != value:
            raise _NoForm(f"{where} is a {kind.__qualname__}, which its own JSON does not give again")
        return {"$model": _path(kind, where), "data": data}
    if hasattr(kind, "__dataclass_fields__"):
        fields = {each.name: inner(getattr(value, each.name), each.name) for each in dataclasses.fields(kind)}
        form = {"$dataclass": _path(kind, where), "data": fields}
        if kind.__eq__ is not object.__eq__ and decode(form) != value:
            raise _NoForm(f"{where} is a {kind.__qualname__}, which its own fields do not give again")
        return form
    raise _NoForm(f"{where} is of type {kind.__module__}.{kind.__qualname__}")


def _local(value: Any) -> dict[str, Any] | None:
    """A moment at a place, or at none."""
    if type(value) is not datetime.datetime or not isinstance(value.tzinfo, (zoneinfo.ZoneInfo, type(None))):
        return None
    zone = getattr(value.tzinfo, "key", None)
    if zone is None and value.tzinfo is not None:
        return None
    return {"$local": value.replace(tzinfo=None).isoformat(), "zone": zone, "fold": value.fold}


def _is_in_its_text(value: Any) -> bool:
    """Whether a moment's zone is an offset, which is all that its text tells of it."""
    zone = getattr(value, "tzinfo", None)
    if getattr(value, "fold", 0):
        return False
    return zone is None or (type(zone) is datetime.timezone and repr(zone) == repr(_offset(zone)))


def _offset(zone: datetime.timezone) -> datetime.timezone:
    """The zone without a name of its own."""
    return datetime.timezone(zone.utcoffset(None)) if zone.utcoffset(None) else datetime.timezone.utc


def _path(kind: type, where: str) -> str:
    path = f"{kind.__module__}:{kind.__qualname__}"
    if "<" in path or _find(path) is not kind:
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
    if mark == "$local":
        moment = datetime.datetime.fromisoformat(content)
        zone = None if form["zone"] is None else zoneinfo.ZoneInfo(form["zone"])
        return moment.replace(tzinfo=zone, fold=form["fold"])
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
