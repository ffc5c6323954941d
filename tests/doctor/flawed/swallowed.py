"""Clauses that catch a cancel and go on."""

import asyncio

import dspy

from dspy_parallel import async_module


@async_module
class Stubborn(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        try:
            return self.predict(question=question)
        except:  # noqa: E722  # flaw: swallows-cancel
            pass
        try:
            return self.careful(question)
        except BaseException:  # flaw: swallows-cancel
            pass
        try:
            return self.predict(question=question, config={"temperature": 0.5})
        except asyncio.CancelledError:  # flaw: swallows-cancel
            pass
        try:
            return self.predict(question=question, config={"temperature": 0.9})
        except (ValueError, BaseException):  # flaw: swallows-cancel
            return None

    def careful(self, question):
        try:
            return self.predict(question=question, config={"temperature": 1.0})
        except (ValueError, TypeError):
            return None
        except asyncio.CancelledError:
            self.predict.reset()
            raise
        except BaseException:
            return None


target = Stubborn()
