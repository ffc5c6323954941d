"""A module as this library wants it."""

import time

import dspy
import requests

from dspy_parallel import async_module, offload


@offload
def rows():
    return open(__file__).read()


@async_module
class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.inner = Inner()

    def forward(self, question):
        time.sleep(0.01)
        requests.get("http://127.0.0.1/", timeout=1)
        try:
            return self.inner(text=self.predict(question=question + rows()).answer)
        except Exception:
            return None


class Inner(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("text -> title")

    def forward(self, text):
        return self.predict(text=text)


target = Answer
