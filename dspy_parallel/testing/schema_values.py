"""Values that satisfy a JSON schema, chosen by a digest instead of by chance.

The same schema and the same digest always give the same value, so two runs of a program can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

__all__ = ["number_from", "value_for"]

#: Below this depth only what a schema requires is produced, so that recursive schemas come to an end.
_SHALLOW = 4
#: No schema of a real program nests deeper; past it a value is null.
_DEEPEST = 24
#: A request is refused whose schema asks for more, such as arrays of millions.
_LARGEST = 100_000

_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T12:30:00Z",
    "time": "12:30:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "uri": "https://example.com/page",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}


def number_from(digest: str, label: str, modulus: int) -> int:
    """A number in [0, modulus) that depends on the digest and the label only."""
    return int.from_bytes(sha256(f"{digest}/{label}".encode()).digest()[:6], "big") % modulus


def value_for(schema: Mapping[str, Any], digest: str, label: str = "value", words: int = 2) -> Any:
    """A JSON value that satisfies the schema; strings name the label, so that a reader knows the field."""
    return _Maker(schema, digest, words).make(schema, label, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any], digest: str, words: int) -> None:
        self._root = root
        self._digest = digest
        self._words = words
        self._left = _LARGEST

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"the schema asks for more than {_LARGEST:,} values and characters")

    def make(self, schema: Any, label: str, depth: int) -> Any:
        self._spend(1)
        schema = self._resolve(schema)
        if "const" in schema or depth > _DEEPEST:
            return schema.get("const")
        if options := [option for option in schema.get("enum", []) if option is not None]:
            return options[number_from(self._digest, label, len(options))]
        if "default" in schema and depth > _SHALLOW:
            return schema["default"]
        if branches := schema.get("anyOf") or schema.get("oneOf"):
            return self.make(self._branch(branches, depth), label, depth + 1)
        kind = schema.get("type")
        if kind == "object" or (kind is None and ("properties" in schema or "additionalProperties" in schema)):
            return self._object(schema, label, depth)
        if kind == "array":
            return self._array(schema, label, depth)
        if kind == "integer":
            step = schema.get("multipleOf", 1)
            least, most = self._bounds(schema, 1, 9, 1)
            low = math.ceil(least / step)
            return (low + number_from(self._digest, label, max(1, int(most // step) - low + 1))) * step
        if kind == "number":
            least, most = self._bounds(schema, 0.0, 1.0, 1e-6)
            return least + (number_from(self._digest, label, 98) + 1) / 100 * (most - least)
        if kind == "boolean":
            return number_from(self._digest, label, 2) == 1
        return None if kind == "null" else self._string(schema, label)

    def _resolve(self, schema: Any) -> Mapping[str, Any]:
        """Follow references; `true` allows a string as anything else."""
        for _ in range(_DEEPEST):
            if not isinstance(schema, Mapping) or not ("$ref" in schema or schema.get("allOf")):
                break
            name = str(schema.get("$ref", "#")).rpartition("/")[2]
            target = self._root if name == "#" else self._root.get("$defs", {}).get(name, {})
            parts = [target] if "$ref" in schema else schema["allOf"]
            own = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
            schema = {key: value for part in (*parts, own) for key, value in part.items()}
        return schema if isinstance(schema, Mapping) else {}

    @staticmethod
    def _branch(branches: Sequence[Any], depth: int) -> Any:
        """The first branch that is not null; in the depths null, because it ends a recursion."""
        null = [branch for branch in branches if isinstance(branch, Mapping) and branch.get("type") == "null"]
        others = [branch for branch in branches if branch not in null]
        return (null + others if depth > _SHALLOW else others + null)[0]

    def _object(self, schema: Mapping[str, Any], label: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties", {})
        extra = schema.get("additionalProperties")
        if not properties and extra not in (None, False) and depth <= _SHALLOW:
            count = max(1, int(schema.get("minProperties", 1)))
            self._spend(count)
            properties = {f"key{i + 1}" if i else "key": extra for i in range(count)}
        names = properties if depth <= _SHALLOW else schema.get("required", properties)
        return {
            name: self.make(properties.get(name, {}), name if depth == 0 else f"{label}_{name}", depth + 1)
            for name in names
        }

    def _array(self, schema: Mapping[str, Any], label: str, depth: int) -> list[Any]:
        values = [self.make(part, f"{label}_{i}", depth + 1) for i, part in enumerate(schema.get("prefixItems", []))]
        items = schema.get("items", not values)
        least = int(schema.get("minItems", 0))
        wanted = min(max(least, 2 if depth <= _SHALLOW else 0), int(schema.get("maxItems", _LARGEST)))
        for attempt in range(len(values), wanted + 100):
            if len(values) >= wanted or items is False:
                break
            value = self.make(items, f"{label}_{attempt}", depth + 1)
            if not schema.get("uniqueItems") or value not in values:
                values.append(value)
        return values

    @staticmethod
    def _bounds(schema: Mapping[str, Any], low: float, high: float, gap: float) -> tuple[float, float]:
        least, most = schema.get("minimum"), schema.get("maximum")
        if (over := schema.get("exclusiveMinimum")) is not None:
            least = over + gap
        if (under := schema.get("exclusiveMaximum")) is not None:
            most = under - gap
        if least is None:
            least = low if most is None or most >= low else most - (high - low)
        return least, (max(high, least + (high - low)) if least > low else high) if most is None else most

    def _string(self, schema: Mapping[str, Any], label: str) -> str:
        if (form := schema.get("format")) in _FORMATS:
            return _FORMATS[form]
        mark = sha256(f"{self._digest}/{label}".encode()).hexdigest()[:8]
        text = " ".join([label.replace("_", " "), mark, *(f"word{i}" for i in range(3, self._words + 1))])
        least, most = int(schema.get("minLength", 0)), int(schema.get("maxLength", _LARGEST))
        self._spend(least)
        return text.ljust(least, "x") if len(text) <= most else (mark + text)[:most]
