"""What a program is called with: a JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import TargetError

__all__ = ["load_inputs"]


def load_inputs(path: str) -> list[dict[str, Any]]:
    """The calls that a file describes: one object of keyword arguments (for a graph, its state), or a list of them.

    Raises:
        TargetError: If the file cannot be read, is no JSON, or describes something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(f"The input {path} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise TargetError(f"The input {path} is not JSON: {error}.") from error
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) for call in calls):
        raise TargetError(
            f'The input {path} is neither an object of keyword arguments, such as {{"question": "Why?"}}, nor a list '
            "of such objects."
        )
    return calls
