"""Modules as this library wants them."""

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
        self.inner = Inner()

    def forward(self, question):
        time.sleep(0.01)
        requests.get("http://127.0.0.1/", timeout=1)
        try:
            return self.inner(text=question + rows())
        except Exception:
            return None


@async_module
class Inner(dspy.Module):
    def forward(self, text):
        return dspy.Predict("text -> title")(text=text)


answer = Answer()


async def ask(question):
    return await answer.acall(question=question)
