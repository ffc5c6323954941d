"""Map-reduce over eight documents, written in a row; and programs that do not give the same twice."""

import itertools
import threading

import dspy


class Summaries(dspy.Module):
    def __init__(self):
        super().__init__()
        self.summarize = dspy.Predict("text -> summary")
        self.merge = dspy.Predict("summaries: list[str] -> summary")

    def forward(self, text):
        parts = [self.summarize(text=f"{text}, part {n}").summary for n in range(8)]
        return self.merge(summaries=parts)


class Parts(dspy.Module):
    """Not decorated, and with an LM of its own, whose provider is far away."""

    def __init__(self):
        super().__init__()
        self.summarize = dspy.Predict("text -> summary")
        self.summarize.lm = dspy.LM("openrouter/some/model")

    def forward(self, text):
        return self.summarize(text=text)


counter = itertools.count()


def counting(text):
    return {"text": dspy.Predict("text -> short")(text=text).short, "number": next(counter)}


def failing(text):
    raise ValueError(f"no {text}, {threading.current_thread().name != ''}")


async def awaiting(text):
    first = dspy.Predict("text -> short")(text=text).short
    return first, (await dspy.Predict("text -> title").acall(text=text)).title


def make():
    return Summaries()
