"""Random programs: the source of a module with a `Program`, its helpers and submodules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.overlap.generated import everyday
from tests.overlap.generated.expressions import Expressions, Scope
from tests.overlap.generated.statements import Statements

__all__ = ["CALM", "programs"]

CALM = "calm"
"""The first word of programs in which hardly anything fails."""

_HELPERS = """\
import collections
import copy
import dataclasses
import functools
import itertools
import operator

import dspy
import pydantic

from tests.support.stub_lms import LMFailure

LOG = []
SHARED = {"a": "first", "list": []}
COUNT = 0
OTHER = None


class Trouble(Exception):
    pass


def shout(text):
    return text.upper() + "!"


def noted(value):
    LOG.append(value)
    return str(value)


def counted(text):
    global COUNT
    COUNT += 1
    return f"{text} {COUNT}"


def spread(*texts, sep="-", **named):
    return sep.join([*texts, *named.values()])


def add(items, value):
    items.append(value)


@functools.lru_cache
def cached(text):
    LOG.append(f"made {text}")
    return text.title()


@dataclasses.dataclass
class Note:
    text: str
    tags: list = dataclasses.field(default_factory=list)

    def update(self, text):
        self.text += text
        self.tags.append(text)

    def first(self):
        return (self.tags or [self.text])[0]


class Item(pydantic.BaseModel):
    name: str
    tags: list[str] = []


class Store:
    def __init__(self):
        self.items = []
        self.count = 0

    def add(self, text):
        self.count += 1
        self.items.append(text)

    def get(self, text):
        return f"{text} {len(self.items)}"

    def search(self, text):
        self.count += 1
        return [each for each in self.items if each in text][:2]

    def list(self):
        return self.items


"""

_MODULES = """

class Extract(dspy.Signature):
    # What an LM finds

    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    item: Item = dspy.OutputField()


def asked_by(predictor, text):
    first = predictor(question=text).answer
    return predictor(question=first + " again").answer


class Asking(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")
        self.think = dspy.ChainOfThought("question -> answer")
        self.rate = dspy.Predict("question -> answer, score: float, good: bool")
        self.listing = dspy.Predict("question -> answer, parts: list[str], count: int")
        self.informed = dspy.Predict("context: list[str], question -> answer")
        self.pair = [dspy.Predict("question -> answer"), dspy.ChainOfThought("question -> answer")]
        self.named = {"a": dspy.Predict("question -> answer"), "b": self.ask}
        self.extract = dspy.Predict(Extract)
        self.chat = dspy.Predict("question, history: dspy.History -> answer")
        self.route = dspy.Predict("question -> answer, kind: Literal['ask', 'think']")
        self.state = []
        self.memory = {"a": "first", "list": []}
        self.stores = [Store()]
        self.total = 0
        self.last = "nothing"
        self.kept_one = dspy.Prediction(answer="none")
        self.handlers = {"a": self.careful, "e": self.remembered, "1": self.quick}

    def quick(self, text):
        return self.ask(question=text).answer

    def remembered(self, text):
        if text not in self.memory:
            self.memory[text] = self.quick(text)
        return self.memory[text]

    def entry(self, text):
        found = self.rate(question=text)
        if found.score < 0.2:
            raise Trouble(found.answer)
        return {"text": text, "answer": found.answer}

    def dig(self, text, level=0):
        self.total += 1
        if level > 0:
            return self.quick(text)
        found = []
        for part in self.listing(question=text).parts[:2]:
            found.append(f"{part}: {self.dig(part, level + 1)}")
        return self.think(question=f"{text} {found}").answer

    @retried
    def careful(self, text):
        found = self.rate(question=text)
        if not found.good:
            raise Trouble(found.answer)
        return found.answer

    @property
    def known(self):
        return f"{self.total} {self.state[:2]}"

    @property
    def turn(self):
        self.total += 1
        return f"turn {self.total}"

    def bump(self):
        self.total += 1
        return self.total
"""

PREAMBLE = f"{_HELPERS}{everyday.PREAMBLE}{_MODULES}"


def _method(name: str, argument: str, body: list[str]) -> list[str]:
    return ["", f"    def {name}(self, {argument}):", *(f"        {line}" for line in body)]


@st.composite
def programs(draw: Any, size: int = 9) -> str:
    """A module's source; `size` is the most statements of a function."""
    e = Expressions(draw)
    e.is_calm = e.chance(70)
    start = Scope(text=("text",))
    lines = [PREAMBLE]
    e.more = [everyday.Everyday(e).text] * 2
    helpers: list[str] = []
    if e.chance(60):
        lines += ["", "class Inner(Asking):", *_forward(e, start, "dspy.Prediction(answer={})", 3)]
        e = Expressions(draw, modules=("inner",), is_calm=e.is_calm)
        e.more = [everyday.Everyday(e).text] * 2
    for number in range(e.pick(0, 1, 1, 2)):
        name = f"helper{number}"
        helpers += _method(name, "text", Statements(e, "{}").body(start, 3))
        e.methods.append(name)
    lines += ["", "", "class Program(Asking):", "    def __init__(self):", "        super().__init__()"]
    lines += ["        self.inner = Inner()"] * bool(e.modules)
    lines += helpers
    writer = Statements(e, "dspy.Prediction(answer={})")
    body, scope = writer.block(start, size, least=4)
    names = [*scope.texts, *scope.number, *scope.table, *scope.text]
    body.append(f"return dspy.Prediction({', '.join(f'{name}={name}' for name in names)})")
    lines[:0] = [f"# {CALM}"] * e.is_calm
    return "\n".join([*lines, *_method("forward", "text", body)]) + "\n"


def _forward(e: Expressions, scope: Scope, returned: str, size: int) -> list[str]:
    return _method("forward", "text", Statements(e, returned).body(scope, size))[1:]
