"""Which errors are refusals, and when the provider wants to be asked again."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_parallel import limit
from dspy_parallel.limits.refusals import copy_of, is_refusal, retry_after
from dspy_parallel.testing import LMServer
from tests.limits.programs import make_lm


class RateLimitError(Exception):
    """As the OpenAI client's."""

    status_code = 429

    def __init__(self, message: str = "", *, code: str | None = None, body: object = None, seconds: Any = None) -> None:
        super().__init__(message)
        self.code, self.body = code, body
        self.response = SimpleNamespace(headers={} if seconds is None else {"Retry-After": seconds})


HINTS = (
    "Rate limit reached on requests per min (RPM): Limit 3, Used 3. You can increase it by adding a payment method to "
    "your account at https://platform.openai.com/account/billing.",
    "You exceeded your current quota, please check your plan and billing details. Please retry in 20s.",
)


@pytest.mark.parametrize("text", HINTS)
def test_a_text_that_mentions_billing_says_nothing(text: str) -> None:
    """Providers tell how to get more in every refusal."""
    body = {"message": text, "type": "requests", "code": "rate_limit_exceeded"}
    assert is_refusal(RateLimitError(text, code="rate_limit_exceeded", body=body))


@pytest.mark.parametrize(
    "spent",
    [
        {"code": "insufficient_quota"},
        {"body": {"type": "insufficient_quota"}},
        {"body": {"error": {"code": "billing_not_active"}}},
    ],
)
def test_a_spent_quota_is_no_refusal(spent: dict[str, Any]) -> None:
    """It has the same status, and no waiting helps; on the error itself or on a cause."""
    error = RateLimitError("You exceeded your current quota.", **spent)
    assert not is_refusal(error)
    outer = RateLimitError()
    outer.__cause__ = error
    assert not is_refusal(outer)


def test_other_errors_are_none() -> None:
    """Neither a mistake nor a cancel."""
    assert is_refusal(RateLimitError())
    assert not is_refusal(ValueError())
    assert not is_refusal(asyncio.CancelledError())


@pytest.mark.parametrize("date", [False, True])
def test_retry_after_as_headers_say_it(date: bool) -> None:
    """In seconds, or as a date; on the error itself or on a cause."""
    error = Exception()
    error.__cause__ = RateLimitError(seconds=formatdate(time.time() + 30, usegmt=True) if date else "30")
    seconds = retry_after(error)
    assert seconds is not None
    assert 28 <= seconds <= 31
    assert retry_after(Exception()) is None


@pytest.mark.parametrize("date", [False, True])
def test_a_time_that_is_over_is_none(date: bool) -> None:
    """As with "0", the provider has not said when to come again."""
    assert retry_after(RateLimitError(seconds=formatdate(time.time() - 5, usegmt=True) if date else "0")) is None


def test_a_copy_has_all_but_the_traceback() -> None:
    """For those that get the error of another call."""
    try:
        raise RateLimitError("slow down", code="rate_limit_exceeded", seconds="30") from ValueError("cause")
    except RateLimitError as exc:
        error = exc
    copied = copy_of(error)
    assert copied is not error
    assert (type(copied), str(copied), copied.__traceback__) == (RateLimitError, "slow down", None)
    assert (retry_after(copied), copied.__cause__) == (30, error.__cause__)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_the_caller_was_handling_is_no_part_of_it(server: LMServer, asynchronous: bool) -> None:
    """One LM's quota is spent, and the program turns to another, which refuses the first request."""
    server.configure(faults=[{"kind": "429", "first": 1}])
    lm = make_lm(server, num_retries=0)
    held = limit(lm)

    async def main() -> Any:
        try:
            raise RateLimitError(code="insufficient_quota", seconds="3600")
        except RateLimitError:
            return await lm.acall("hello") if asynchronous else await asyncio.to_thread(sync)

    def sync() -> Any:
        try:
            raise RateLimitError(code="insufficient_quota", seconds="3600")
        except RateLimitError:
            return lm("hello")

    assert asyncio.run(asyncio.wait_for(main(), 30))
    assert held.refusals == 1


class Hostile:
    """Whatever is asked of it, it raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    items = property(__getattr__)  # type: ignore[arg-type]

    def __str__(self) -> str:
        raise RuntimeError


class HostileError(Exception):
    status_code = 429
    response = body = headers = retry_after = property(Hostile.__getattr__)  # type: ignore[arg-type]


HEADERS: list[Any] = [
    *(
        "nan",
        "inf",
        "-inf",
        "1e999",
        "-1",
        "-1e999",
        "",
        " ",
        "soon",
        "١٢ ٣",
        "\ud800",
        "1,2",
        "\x00",
        "9" * 5000,
        "0x10",
    ),
    *(
        "Mon, 01 Jan 2024 00:00:00 +99999999999999999",
        "Mon, 01 Jan 99999 00:00:00 GMT",
        "Mon, 32 Foo 2024 99:99:99 GMT",
    ),
    *("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", ",,,", "Mon,", "01 Jan"),
    *([], ["5", "6"], {}, {"5": 6}, object(), Hostile(), b"\xff", True, float("nan"), 10**400, -5, 1e300),
]


@pytest.mark.parametrize(
    "value", HEADERS, ids=lambda value: repr(value)[:20] if type(value) is not Hostile else "raises"
)
def test_a_header_that_makes_no_sense_costs_nothing(value: Any) -> None:
    """It is no time at all, or one that can be waited for; and the place comes back."""
    for error in (RateLimitError(seconds=value), RateLimitError(), HostileError()):
        if isinstance(error, RateLimitError) and error.response.headers == {}:
            error.response.headers = {b"Retry-After-Ms": value, "retry-after": value}
        seconds = retry_after(error)
        assert seconds is None or 0 < seconds <= 1e9
        assert is_refusal(error)
        assert isinstance(copy_of(error), type(error))
        lm = Refusing(error)
        held = limit(lm, max_in_flight=1, give_up_after=0)
        with pytest.raises(type(error)):
            lm("hello")
        with pytest.raises(type(error)):
            asyncio.run(lm.acall("hello"))
        assert (held.in_flight, held.refusals) == (0, 2)


@given(st.one_of(st.text(), st.binary(), st.floats(), st.integers(), st.from_regex(r"\w{3}, \d+ \w{3} \d+ [0-9:]+ .*")))
def test_no_header_raises(value: Any) -> None:
    seconds = retry_after(RateLimitError(seconds=value))
    assert seconds is None or 0 < seconds <= 1e9


class Refusing(dspy.BaseLM):
    """Without so much as a name."""

    def __init__(self, error: Exception) -> None:
        super().__init__("refusing", cache=False)
        self.error = error
        del self.model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        raise self.error


def test_a_place_is_given_back_whatever_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of our own in looking at the refusal, too."""
    lm = Refusing(RateLimitError())
    held = limit(lm, max_in_flight=1, give_up_after=0)
    for broken in ("is_refusal", "retry_after"):
        with monkeypatch.context() as patched:
            patched.setattr(f"dspy_parallel.limits.limited_call.{broken}", lambda *_: {}["a fault"])
            for call in (lambda: lm("hello"), lambda: asyncio.run(lm.acall("hello"))):
                with pytest.raises(KeyError, match="a fault"):
                    call()
                assert held.in_flight == 0
