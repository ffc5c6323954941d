"""What a run has for itself: a context variable, a random generator, a stream."""

import contextvars
import io
import os
import random

import dspy

from dspy_parallel import async_module

folder = os.environ.get("FOLDER", "/tmp")
numbers = random.Random(7)
question = contextvars.ContextVar("question", default="")


@async_module
class Own(dspy.Module):
    def forward(self, text):
        question.set(text)
        stream = io.StringIO()
        print(random.Random(7).random(), numbers.random(), os.getenv("FOLDER"), folder, file=stream)
        return dspy.Predict("text -> short")(text=f"{question.get()} {stream.getvalue()}")
