"""Map-reduce over eight documents, written in a row; and programs that do not give the same twice."""

import itertools
import os

import dspy

from dspy_parallel import in_bridge


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


def telling(text):
    return {"text": dspy.Predict("text -> short")(text=text).short, "bridged": in_bridge()}


def failing(text):
    raise ValueError(f"no {text}")


class Time(dspy.Module):
    def __init__(self):
        super().__init__()
        self.extractor = dspy.ChainOfThought("plan -> time")

    def forward(self, plan):
        return self.extractor(plan=plan).time


class Planned(dspy.Module):
    """A call far down, and a line that nobody can say anything about, before the last one."""

    def __init__(self):
        super().__init__()
        self.plan = dspy.Predict("text -> plan")
        self.time = Time()
        self.merge = dspy.Predict("time, number -> summary")

    def forward(self, text):
        time = self.time(self.plan(text=text).plan)
        number = os.getpid()
        return self.merge(time=time, number=number).summary


async def awaiting(text):
    first = dspy.Predict("text -> short")(text=text).short
    return first, (await dspy.Predict("text -> title").acall(text=text)).title


def make():
    return Summaries()
