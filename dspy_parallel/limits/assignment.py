"""Which limit an LM has: its own, or the default of the place where its requests go."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import Any

import dspy

from .. import seams
from ..display import Line, Shown
from ..errors import FileLimitWarning, LimitError
from ..seams.connections import max_connections
from .limiter import Limiter, Rate

__all__ = ["Limit", "counting_limits", "default_limit", "limit", "limit_all", "limit_of"]

ATTRIBUTE = "_dspy_parallel_limit"
GIVE_UP_AFTER = 600.0


@dataclass(frozen=True)
class Settings:
    """What was asked for."""

    max_in_flight: int | None = None
    requests_per_minute: int | None = None
    give_up_after: float = GIVE_UP_AFTER

    def __post_init__(self) -> None:
        for name, value in (("max_in_flight", self.max_in_flight), ("requests_per_minute", self.requests_per_minute)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise LimitError(f"limit() got {name}={value!r}. Give a whole number from 1, or None for no limit.")
        if not self.give_up_after >= 0:
            raise LimitError(f"limit() got give_up_after={self.give_up_after!r}. Give seconds, 0 or more.")


_numbers = itertools.count(1)
_limits: weakref.WeakValueDictionary[int, Limit] = weakref.WeakValueDictionary()


class Limit(Shown):
    """What `limit()` gives: the limit of one LM and its copies, and how busy it is.

    Safe to read from any thread; each figure is of the moment. The names and figures are all that it knows: no
    prompt, key or reply passes through it.

    Example:
        ```python
        import dspy
        from dspy_parallel import limit

        held = limit(dspy.LM("openai/gpt-4o-mini"), max_in_flight=50)
        assert (held.in_flight, held.waiting, held.allowed) == (0, 0, 50)
        held.lift()
        ```
    """

    def __init__(self, settings: Settings, number: int | None = None) -> None:
        self.settings = settings
        self._number = next(_numbers) if number is None else number
        rate = None if settings.requests_per_minute is None else Rate(settings.requests_per_minute)
        self.limiter = Limiter(settings.max_in_flight, rate)
        self.lifted = False
        self.replaced = False
        """Whether an LM that was under it has got another one."""
        _limits[self._number] = self

    @property
    def in_flight(self) -> int:
        """Requests that the LM is serving."""
        return self.limiter.in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return self.limiter.waiting

    @property
    def allowed(self) -> float:
        """How many may be in flight now: less than `max_in_flight` after refusals."""
        return self.limiter.window.size

    @property
    def refusals(self) -> int:
        """How many requests the LM has refused with status 429."""
        return self.limiter.refusals

    @property
    def pause(self) -> float:
        """Seconds for which every call waits, because the LM's `Retry-After` said so."""
        return self.limiter.pause

    @property
    def counts(self) -> bool:
        """Whether there may be as many in flight as it allows."""
        return not self.lifted and not self.replaced

    def lift(self) -> None:
        """End the limit: calls that come now go through, and those that wait still wait for their turn."""
        self.lifted = True

    def __repr__(self) -> str:
        return f"<Limit {self.settings}: {self.in_flight} in flight, {self.waiting} waiting>"

    def pieces(self) -> Line:
        """What is allowed, and how busy it is, for people."""
        most, rate = self.settings.max_in_flight, self.settings.requests_per_minute
        asked = [*([f"at most {most} in flight"] if most else []), *([f"{rate} per minute"] if rate else [])]
        now = f": {self.in_flight} in flight, {self.waiting} waiting"
        refused = f", {self.refusals} refused, {self.allowed:g} allowed now" if self.refusals else ""
        paused = f", paused for {self.pause:.1f} s" if self.pause else ""
        return [
            ("limit ", "bold"),
            (", ".join(asked) or "none", "lm"),
            (now, ""),
            (refused + paused, "bad"),
            ("" if self.counts else ", lifted", "dim"),
        ]

    def _lines(self) -> list[Line]:
        return [self.pieces()]

    # DSPy copies and pickles LMs. Copies share the limit, and so does what is unpickled in the same process. A pickle
    # holds plain data, so that it can be read where this package is not installed.

    def __copy__(self) -> Limit:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Limit:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        settings = self.settings
        plain = (settings.max_in_flight, settings.requests_per_minute, settings.give_up_after)
        return tuple, ((_PROCESS, self._number, *plain),)


_PROCESS = f"{id(_limits):x}.{hash('this process'):x}"
"""Tells limits of this process from those of others; strings hash differently in each."""


def limit(
    *lms: Any,
    max_in_flight: int | None = None,
    requests_per_minute: int | None = None,
    give_up_after: float = GIVE_UP_AFTER,
) -> Limit:
    """Have an LM get no more than so many requests at a time and per minute, and none lost that it refuses.

    Each call takes its turn right before its request and gives the place back right after it, so that programs which
    call programs cannot wait for each other; answers from the cache take none. First come, first served, across
    threads and event loops: it makes no difference whether the call is made by a bridged program, in `dspy.Parallel`,
    by hand with `await lm.acall(...)` or in plain sync code. A cancel while waiting is raised at once. Waiting counts
    neither towards the LM's `timeout` nor, before its first request, between `on_lm_start` and `on_lm_end`.

    A request refused with status 429 is queued again, before those that came later. If the refusal has a
    `Retry-After`, nobody asks before it is over. The number in flight shrinks while the LM refuses and grows back as
    it answers. All other errors are retried as ever, by `num_retries`. A stream holds its place until it is over, and
    is not begun again once a part of it has been handed on.

    What DSPy makes of the LM, with `copy()`, `deepcopy` or a pickle, shares the limit. It ends with `lift()`, with a
    second `limit()`, and with `uninstall()`.

    Args:
        *lms: One LM, or several that share the limit.
        max_in_flight: Requests at a time. None: as many as there are, until the LM refuses some.
        requests_per_minute: Requests per minute, spread evenly. None: any number.
        give_up_after: Seconds from a call's first refusal after which it fails with the provider's error; in the queue,
            seconds after which it does so if the LM refuses all and then names a time that is later still.

    Returns:
        The limit, which tells what is in flight and waiting.

    Raises:
        LimitError: For a number that makes no sense, or something that is not an LM.
        SeamError: If the installed DSPy or LiteLLM lacks what has to be patched; the message names it.

    Example:
        ```python
        import dspy
        from dspy.utils import DummyLM
        from dspy_parallel import limit

        lm = DummyLM([{"answer": "four"}])
        held = limit(lm, max_in_flight=50, give_up_after=120)
        with dspy.context(lm=lm):
            assert dspy.Predict("question -> answer")(question="2 + 2?").answer == "four"
        assert held.in_flight == 0
        ```
    """
    if not lms:
        raise LimitError("limit() was called without an LM. Name one or more, or use limit_all() for the rest.")
    for lm in lms:
        if not isinstance(lm, dspy.BaseLM):
            raise LimitError(f"limit() was called with an object of type {type(lm).__qualname__}, which is not an LM.")
    settings = Settings(max_in_flight, requests_per_minute, give_up_after)
    for lm in lms:
        if isinstance(before := vars(lm).get(ATTRIBUTE), Limit):
            before.replaced = True
    _check_files(settings)
    _install()
    made = Limit(settings)
    for lm in lms:
        setattr(lm, ATTRIBUTE, made)
    return made


def limit_all(
    *, max_in_flight: int | None = None, requests_per_minute: int | None = None, give_up_after: float = GIVE_UP_AFTER
) -> None:
    """Give every LM a limit that has none of its own; without arguments, take that away again.

    The numbers hold for each model, address and key: LMs that were made separately share a limit if their requests
    go to the same place. Otherwise as `limit()`. Process-wide, and safe to call from any thread while programs run.

    Args:
        max_in_flight: Requests at a time.
        requests_per_minute: Requests per minute, spread evenly.
        give_up_after: Seconds from a call's first refusal after which it fails with the provider's error; in the queue,
            seconds after which it does so if the LM refuses all and then names a time that is later still.

    Raises:
        LimitError: For a number that makes no sense.
        SeamError: As `limit()`.

    Example:
        ```python
        from dspy_parallel import limit_all

        limit_all(max_in_flight=100)
        limit_all()  # and no more
        ```
    """
    global _default
    settings = Settings(max_in_flight, requests_per_minute, give_up_after)
    _install()
    with _lock:
        _of_places.clear()
        _default = settings if settings != Settings() else None
    _check_files(settings)


def _install() -> None:
    """Patch what makes requests; raises if it cannot all be patched, since a limit must not be off in silence."""
    seams.install()
    if importlib.util.find_spec("dspy.clients.execution") is not None:
        importlib.import_module("dspy.clients.execution")  # DSPy does so at the first call; what is missing is said now


_default: Settings | None = None
_of_places: dict[tuple[Any, ...], Limit] = {}
_lock = threading.Lock()


def default_limit() -> Settings | None:
    """What was asked for with `limit_all()`."""
    return _default


def counting_limits() -> list[Limit]:
    """All limits that count."""
    return [limit for _, limit in sorted(_limits.items()) if limit.counts]


def limit_of(lm: Any) -> Limit | None:
    """The limit that the LM's calls are under."""
    own = vars(lm).get(ATTRIBUTE)
    if own is not None:
        if not isinstance(own, Limit):
            own = _unpickled(own)
            setattr(lm, ATTRIBUTE, own)
        return None if own.lifted else own
    settings = _default
    if settings is None:
        return None
    place = _place(lm)
    found = _of_places.get(place)
    if found is None:
        _check_files(settings)
        with _lock:
            found = _of_places.setdefault(place, Limit(settings))
    return found


def _place(lm: Any) -> tuple[Any, ...]:
    """Where its requests go; of the key only a hash, so that it is not kept here."""
    options: dict[str, Any] = getattr(lm, "kwargs", None) or {}
    address = options.get("api_base") or options.get("base_url")
    return type(lm), getattr(lm, "model", None), str(address), hash(str(options.get("api_key")))


def _unpickled(plain: tuple[Any, ...]) -> Limit:
    process, number, *settings = plain
    with _lock:
        known = _limits.get(number) if process == _PROCESS else _foreign.get((process, number))
        if known is None:
            known = Limit(Settings(*settings))
            if process != _PROCESS:
                _foreign[process, number] = known
        return known


_foreign: weakref.WeakValueDictionary[tuple[str, int], Limit] = weakref.WeakValueDictionary()


def _check_files(settings: Settings) -> None:
    if settings.max_in_flight is None:
        return
    available = max_connections()
    known = [each for reference in _limits.valuerefs() if (each := reference()) is not None]
    others = sum(each.settings.max_in_flight or 0 for each in known if each.counts)
    if settings.max_in_flight + others > available:
        together = f", with {others:,} of other limits," if others else ""
        warnings.warn(
            f"max_in_flight={settings.max_in_flight:,}{together} is more than the {available:,} connections that this "
            "process may have open: calls beyond that wait for a connection. Raise the limit of open files (ulimit -n) "
            "before the process starts.",
            FileLimitWarning,
            stacklevel=3,
        )
