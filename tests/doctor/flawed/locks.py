"""Locks held while an LM is asked: an attribute, a global, one behind a helper, one without `with`."""

import threading

import dspy

from dspy_parallel import async_module

turns = threading.Semaphore(2)


@async_module
class Counted(dspy.Module):
    guard = threading.Lock()

    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        with self.guard:  # flaw: lock-across-call
            self.predict(question=question)
        with turns:  # flaw: lock-across-call
            self.again(question)
        self.guard.acquire()  # flaw: lock-across-call
        try:
            return self.predict(question=question)
        finally:
            self.guard.release()

    def again(self, question):
        with self.guard:
            question = f"{question}?"
        return self.predict(question=question)
