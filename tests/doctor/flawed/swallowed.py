"""Clauses that catch a cancel and go on."""

import asyncio
from contextlib import suppress

import dspy

from dspy_parallel import async_module

predict = dspy.Predict("question -> answer")


@async_module
class Stubborn(dspy.Module):
    def forward(self, question):
        try:
            return predict(question=question)
        except:  # noqa: E722  # flaw: swallows-cancel
            pass
        try:
            return self.careful(question)
        except (ValueError, BaseException):  # flaw: swallows-cancel
            pass
        try:
            return predict(question=question)
        except asyncio.CancelledError:  # flaw: swallows-cancel
            return None
        with suppress(KeyError, BaseException):  # flaw: swallows-cancel
            return predict(question=question)
        try:
            predict(question=question)
        finally:
            return None  # noqa: B012  # flaw: swallows-cancel

    def careful(self, question):
        try:
            return predict(question=question)
        except asyncio.CancelledError:
            raise
        except BaseException:
            return None
