"""A decorated module that takes its lock in a way that reading does not tell."""

import contextlib
import threading

import dspy

from dspy_parallel import async_module

locks = {"one": threading.Lock()}


@async_module
class Shorten(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> short")

    def forward(self, text):
        lock = locks.get("one" if text else "")
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock)
            return self.predict(text=text)  # flaw: lock-across-call


target = Shorten
inputs = {"text": "a"}
