"""Which errors are refusals, and when the provider wants to be asked again."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

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
