"""The mixin, a lock that is free again before the call, and a cancel that is passed on."""

import threading

import dspy

from dspy_parallel import AsyncModuleMixin


class Counted(AsyncModuleMixin, dspy.Module):
    lock = threading.Lock()
    count = 0

    def forward(self, question):
        with self.lock:
            type(self).count += 1
        try:
            return dspy.ChainOfThought("question -> answer")(question=question)
        except BaseException:
            type(self).count -= 1
            raise
