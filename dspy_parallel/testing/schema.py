"""Values that satisfy a JSON schema, chosen by a digest instead of by chance.

The same schema and the same digest always give the same value, so two runs of a program can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

__all__ = ["Schema", "number_from", "value_for"]

Schema = Mapping[str, Any]

#: Below this depth only what a schema requires is produced, so that recursive schemas come to an end.
_SHALLOW = 4
#: No schema of a real program nests deeper; past it a value is whatever is shortest.
_DEEPEST = 24

_FORMATS = {
    "date": "2024-05-17",
    "date-time": "2024-05-17T12:30:00Z",
    "time": "12:30:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/page",
    "uuid": "12345678-1234-4234-8234-123456789abc",
}


def number_from(digest: str, label: str, modulus: int) -> int:
    """A number in [0, modulus) that depends on the digest and the label only."""
    return int.from_bytes(sha256(f"{digest}/{label}".encode()).digest()[:6], "big") % modulus


def value_for(schema: Schema, digest: str, label: str = "value", words: int = 2) -> Any:
    """A JSON value that satisfies the schema; strings name the label, so that a reader knows the field."""
    return _Maker(schema, digest, words).make(schema, label, 0)


class _Maker:
    def __init__(self, root: Schema, digest: str, words: int) -> None:
        self._definitions: dict[str, Any] = {**root.get("definitions", {}), **root.get("$defs", {})}
        self._root = root
        self._digest = digest
        self._words = words

    def make(self, schema: Any, label: str, depth: int) -> Any:
        if not isinstance(schema, Mapping) or depth > _DEEPEST:
            return self._string({}, label) if depth <= _DEEPEST else None
        schema = self._resolve(schema)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._pick(schema["enum"], label)
        if "default" in schema and depth > _SHALLOW:
            return schema["default"]
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.make(self._branch(schema[key], depth), label, depth + 1)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((k for k in kind if k != "null"), "null")
        if kind == "object" or (kind is None and ("properties" in schema or "additionalProperties" in schema)):
            return self._object(schema, label, depth)
        if kind == "array" or (kind is None and ("items" in schema or "prefixItems" in schema)):
            return self._array(schema, label, depth)
        if kind == "integer":
            return self._integer(schema, label)
        if kind == "number":
            return self._number(schema, label)
        if kind == "boolean":
            return number_from(self._digest, label, 2) == 1
        if kind == "null":
            return None
        return self._string(schema, label)

    def _resolve(self, schema: Schema) -> Schema:
        """Follow $ref and merge allOf until neither is left."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                reference = str(schema["$ref"])
                target = self._root if reference == "#" else self._definitions.get(reference.rsplit("/", 1)[-1], {})
                schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
            elif schema.get("allOf"):
                merged: dict[str, Any] = {k: v for k, v in schema.items() if k != "allOf"}
                for part in schema["allOf"]:
                    part = self._resolve(part)
                    properties = {**merged.get("properties", {}), **part.get("properties", {})}
                    required = [*merged.get("required", []), *part.get("required", [])]
                    merged = {**merged, **part}
                    if properties:
                        merged["properties"], merged["required"] = properties, required
                schema = merged
            else:
                break
        return schema

    def _branch(self, branches: Sequence[Any], depth: int) -> Any:
        """The first branch that is not null; in the depths null wins, because it ends a recursion."""
        null = [b for b in branches if isinstance(b, Mapping) and b.get("type") == "null"]
        if null and depth > _SHALLOW:
            return null[0]
        return next((b for b in branches if b not in null), branches[0])

    def _pick(self, options: Sequence[Any], label: str) -> Any:
        options = [o for o in options if o is not None] or list(options)
        return options[number_from(self._digest, label, len(options))]

    def _object(self, schema: Schema, label: str, depth: int) -> dict[str, Any]:
        properties: Mapping[str, Any] = schema.get("properties", {})
        required = set(schema.get("required", properties))
        value = {
            name: self.make(part, name if depth == 0 else f"{label}_{name}", depth + 1)
            for name, part in properties.items()
            if depth <= _SHALLOW or name in required
        }
        extra = schema.get("additionalProperties")
        if not properties and extra not in (None, False) and depth <= _SHALLOW:
            count = max(1, int(schema.get("minProperties", 1)))
            keys = [f"key{i + 1}" if i else "key" for i in range(count)]
            value = {k: self.make(extra if isinstance(extra, Mapping) else {}, f"{label}_{k}", depth + 1) for k in keys}
        return value

    def _array(self, schema: Schema, label: str, depth: int) -> list[Any]:
        fixed = [self.make(part, f"{label}_{i}", depth + 1) for i, part in enumerate(schema.get("prefixItems", []))]
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        wanted = max(least, 2 if depth <= _SHALLOW else 0)
        if most is not None:
            wanted = min(wanted, int(most))
        items = schema.get("items", {} if not fixed else False)
        if items is False:
            return fixed
        values = list(fixed)
        attempt = len(fixed)
        while len(values) < wanted:
            value = self.make(items, f"{label}_{attempt}", depth + 1)
            attempt += 1
            # A short enum cannot fill a unique list; give up on uniqueness only below what the schema demands.
            if schema.get("uniqueItems") and value in values:
                if len(values) >= least or attempt > 200:
                    break
                continue
            values.append(value)
        return values

    def _integer(self, schema: Schema, label: str) -> int:
        step = int(schema.get("multipleOf", 1)) or 1
        least, most = self._bounds(schema, 1, 9)
        low = -(-int(-(-least // 1)) // step)
        high = max(low, int(most // 1) // step)
        return (low + number_from(self._digest, label, high - low + 1)) * step

    def _number(self, schema: Schema, label: str) -> float:
        if "multipleOf" in schema:
            return float(self._integer({**schema, "multipleOf": 1}, label)) * float(schema["multipleOf"])
        least, most = self._bounds(schema, 0.0, 1.0, gap=1e-6)
        share = (number_from(self._digest, label, 98) + 1) / 100
        return round(least + share * (most - least), 4) if most - least > 0.01 else least + share * (most - least)

    def _bounds(self, schema: Schema, low: float, high: float, gap: float = 1) -> tuple[float, float]:
        least, most = schema.get("minimum"), schema.get("maximum")
        if (over := schema.get("exclusiveMinimum")) is not None:
            least = over + gap
        if (under := schema.get("exclusiveMaximum")) is not None:
            most = under - gap
        if least is None:
            least = low if most is None or most >= low else most - (high - low)
        if most is None:
            most = max(high, least + (high - low)) if least > low else high
        return least, most

    def _string(self, schema: Schema, label: str) -> str:
        if (form := schema.get("format")) in _FORMATS:
            return _FORMATS[form]
        if (pattern := schema.get("pattern")) is not None:
            return self._matching(str(pattern))
        mark = sha256(f"{self._digest}/{label}".encode()).hexdigest()[:8]
        text = f"{label.replace('_', ' ')} {mark}"
        if self._words > 2:
            text += "".join(f" word{i}" for i in range(3, self._words + 1))
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = text.ljust(least, "x")
        return text if most is None else (mark + text)[: int(most)] if int(most) < len(text) else text

    def _matching(self, pattern: str) -> str:
        """A string for the patterns that pydantic writes for numbers and that people write for codes."""
        number = str(number_from(self._digest, pattern, 9) + 1)
        candidates = [number, number * 2, "a", "A", "abc", "ABC", f"A{number}", f"{number}.5", "2024-05-17", "abc-123"]
        candidates += [number * n for n in range(3, 11)] + ["A" * n for n in range(2, 11)]
        return next((c for c in candidates if re.search(pattern, c)), "")
