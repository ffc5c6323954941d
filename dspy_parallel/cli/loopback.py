"""Has a program's LMs answered by the loopback server, whatever provider it names: no key, no cost."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dspy

from ..errors import TargetError, installation

if TYPE_CHECKING:
    from ..testing import LMServer

__all__ = ["LATENCY", "NOWHERE", "load_latencies", "on_loopback", "redirected", "served"]

LATENCY = 0.5
"""Seconds for each reply, if nothing else is asked for."""
NOWHERE = {"api_base": "http://127.0.0.1:9/v1", "api_key": "none", "num_retries": 0}
"""For LMs that nobody is to ask: what is imported to be read costs nothing."""


def load_latencies(path: str) -> Any:
    """Latencies to replay, as `LMServer` takes them.

    Args:
        path: A timeline that was saved as JSON; or JSON with seconds: a number, a list, or lists by model name.

    Raises:
        TargetError: If the file cannot be read or holds something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TargetError(f"The latencies {path} cannot be read: {error}.") from error
    if isinstance(found, dict) and "format" in found:
        return _of_timeline(path)
    values = found.values() if isinstance(found, dict) else [found]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    if not flat or not all(isinstance(item, (int, float)) and 0 <= item < 3600 for item in flat):
        raise TargetError(f"The latencies {path} are not seconds: a number, a list, or lists by model name.")
    return found


def _of_timeline(path: str) -> dict[str, list[float]]:
    from ..errors import TimelineError
    from ..timeline import Timeline
    from ..timeline.figures import call_pieces, waits_by_call

    try:
        timeline = Timeline.load(path)
    except TimelineError as error:
        raise TargetError(str(error)) from error
    waits = waits_by_call(timeline.spans)
    found: dict[str, list[float]] = {}
    for call in timeline.lm_calls:
        if not call.facts.get("cached"):
            seconds = sum(end - start for start, end in call_pieces(call, waits))
            found.setdefault(call.name.rpartition("/")[2], []).append(seconds)
    if not found:
        raise TargetError(f"The timeline {path} has no LM calls to replay.")
    return found


@contextmanager
def served(**options: Any) -> Generator[LMServer]:
    """Every `dspy.LM` that is made inside the context asks a server on 127.0.0.1, with the model's name that it has.

    An LM is configured if the program configures none. LMs made before are not changed.

    Args:
        **options: For `LMServer`: `latency` and so on.

    Raises:
        TargetError: If the server's extra is not installed.
    """
    if importlib.util.find_spec("aiohttp") is None:
        raise TargetError(f"The loopback server needs aiohttp, of the extra: {installation('testing')}")
    from ..testing import LMServer

    with LMServer(**options) as server, redirected(on_loopback, server.lm_kwargs()):
        if dspy.settings.lm is None:
            dspy.configure(lm=dspy.LM("loopback"))
        yield server


def on_loopback(model: str) -> str:
    """A model of any provider, as the server knows it: "openai/" names the protocol."""
    return f"openai/{model.rpartition('/')[2]}"


@contextmanager
def redirected(model_of: Any, settings: dict[str, Any]) -> Generator[None]:
    """Every `dspy.LM` that is made inside the context has these settings: for commands, which own their process.

    Args:
        model_of: Gives the model that is asked, from the one that is named.
        settings: For `dspy.LM`, before those that the program gives.
    """
    stock = dspy.LM.__init__

    @functools.wraps(stock)
    def __init__(self: Any, model: str, *args: Any, **kwargs: Any) -> None:
        stock(self, model_of(model), *args, **{**kwargs, **settings})

    dspy.LM.__init__ = __init__
    try:
        yield
    finally:
        dspy.LM.__init__ = stock
