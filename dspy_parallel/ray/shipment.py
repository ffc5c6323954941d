"""What a worker needs to run a program as its caller would: the program, its LMs and their limits, DSPy's settings."""

from __future__ import annotations

import contextvars
import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import cloudpickle
import dspy
from dspy.dsp.utils.settings import DEFAULT_CONFIG

from ..errors import LimitError, ShippingError
from ..limits import limit, limit_all
from ..limits.assignment import ATTRIBUTE, Limit, Settings, default_limit

__all__ = ["Shipment"]

OF_A_RUN = {"trace", "usage_tracker", "caller_predict", "caller_modules", "send_stream", "stream_listeners"}
"""Settings that belong to what the caller is in the middle of."""


@dataclass
class Shipment:
    """A program in pieces. Ray carries it from process to process; it is in no file.

    Attributes:
        title: What to call the program.
        shell: The module with its predictors reset, or a function. Classes go by their names, or by value if they are
            defined in `__main__`.
        state: What `Module.save()` would write, without LMs.
        lms: The predictors' own LMs, as objects: a state has neither their keys nor classes of one's own.
        settings: DSPy's, where they are not the defaults.
        limits: For each limit, the LMs that are under it.
        default: What was given to `limit_all()`.
    """

    title: str
    shell: Any
    state: dict[str, Any] | None
    lms: dict[str, Any]
    settings: dict[str, Any]
    limits: list[tuple[Settings, list[Any]]]
    default: Settings | None

    @classmethod
    def of(cls, program: Any) -> Shipment:
        """Take the program as it is now, and the settings of the calling context."""
        defaults = cast("dict[str, Any]", DEFAULT_CONFIG)
        settings = {
            name: value
            for name, value in dspy.settings.copy().items()
            if name in defaults and name not in OF_A_RUN and value is not defaults[name] and value != defaults[name]
        }
        lean: dict[int, Any] = {}
        settings = {name: _lean(value, lean) if name == "lm" else value for name, value in settings.items()}
        if not isinstance(program, dspy.Module):
            shell, state, lms = program, None, {}
            title = str(getattr(program, "__name__", type(program).__name__))
        else:
            lms = {name: _lean(each.lm, lean) for name, each in program.named_predictors() if each.lm is not None}
            bare = program.deepcopy()
            for _, predictor in bare.named_predictors():
                predictor.lm = None
            shell, state, title = bare.reset_copy(), bare.dump_state(), type(program).__name__
        by_limit: dict[int, tuple[Settings, list[Any]]] = {}
        for lm in lean.values():
            held = vars(lm).pop(ATTRIBUTE, None)
            if isinstance(held, Limit) and not held.lifted:
                by_limit.setdefault(id(held), (held.settings, []))[1].append(lm)
        return cls(title, shell, state, lms, settings, list(by_limit.values()), default_limit())

    def check(self, workers: int) -> None:
        """Find out whether the limits can be divided.

        Raises:
            LimitError: If one is less than the number of workers.
        """
        for settings in (*(settings for settings, _ in self.limits), *filter(None, [self.default])):
            _share(settings, 0, workers)

    def packed(self) -> bytes:
        """It as bytes.

        Raises:
            ShippingError: If something in it cannot be sent; the message says what.
        """
        try:
            content: bytes = cloudpickle.dumps(self)
            return content
        except Exception as exc:
            raise ShippingError(
                f"{_culprit(self)} cannot be sent to other processes: {exc}. Keep files, clients and locks out "
                "of attributes: make them where they are used, or leave them out of pickles with __getstate__."
            ) from exc

    @staticmethod
    def unpacked(content: bytes, number: int, workers: int) -> tuple[Any, contextvars.Context]:
        """The program, and a context with the settings, in the worker with this number."""
        self = cast("Shipment", cloudpickle.loads(content))
        program = self.shell
        if self.state is not None:
            program.load_state(self.state)
            for name, predictor in program.named_predictors():
                predictor.lm = self.lms.get(name)
        for settings, lms in self.limits:
            limit(*lms, **_share(settings, number, workers))
        if self.default is not None:
            limit_all(**_share(self.default, number, workers))
        with dspy.context(**self.settings):
            return program, contextvars.copy_context()


def _lean(lm: Any, known: dict[int, Any]) -> Any:
    """A copy of an LM without its history; always the same copy of the same LM."""
    if id(lm) not in known:
        known[id(lm)] = made = copy.copy(lm)
        made.history = []
    return known[id(lm)]


def _share(settings: Settings, number: int, workers: int) -> dict[str, Any]:
    """Arguments of `limit()` for one of the workers: its part of the whole."""
    share: dict[str, Any] = {"give_up_after": settings.give_up_after}
    for name in ("max_in_flight", "requests_per_minute"):
        whole = getattr(settings, name)
        if whole is not None:
            if whole < workers:
                raise LimitError(
                    f"A limit of {name}={whole} cannot be divided over {workers} workers. Give a greater limit, or "
                    "map_dataset() a smaller concurrency."
                )
            share[name] = whole // workers + (number % workers < whole % workers)
    return share


def _culprit(shipment: Shipment) -> str:
    """Which part of a shipment cannot be pickled."""

    def parts() -> Iterable[tuple[str, Any]]:
        yield from ((f"The DSPy setting {name!r}", value) for name, value in shipment.settings.items())
        yield from ((f"The LM of {name!r}", lm) for name, lm in shipment.lms.items())
        attributes: dict[str, Any] = getattr(shipment.shell, "__dict__", {})
        yield from ((f"The attribute {name!r} of {shipment.title}", value) for name, value in attributes.items())

    for what, value in parts():
        try:
            cloudpickle.dumps(value)
        except Exception:
            return what
    return shipment.title
