"""Locks held while an LM is asked: an attribute, a global, one behind a helper, one without `with`."""

import threading

import dspy

from dspy_parallel import async_module

turns = threading.Semaphore(2)


@async_module
class Counted(dspy.Module):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        with self.lock:  # flaw: lock-across-call
            first = self.predict(question=question)
        with turns:  # flaw: lock-across-call
            answer = self.again(question, first.answer)
        self.lock.acquire()  # flaw: lock-across-call
        try:
            return self.predict(question=answer.answer)
        finally:
            self.lock.release()

    def again(self, question, answer):
        with self.lock:
            question = f"{question} {answer}?"
        return self.predict(question=question)

    def __getstate__(self):
        return {}


target = Counted
