"""Random programs: the source of a module with a `Program`, its helpers and submodules."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.overlap.generated.expressions import Expressions, Scope
from tests.overlap.generated.statements import Statements

__all__ = ["programs"]

PREAMBLE = """\
import dspy

from tests.modules.lms import LMFailure

LOG = []
COUNT = 0


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
        self.state = []
        self.total = 0

    def bump(self):
        self.total += 1
        return self.total
"""


def _method(name: str, argument: str, body: list[str]) -> list[str]:
    return ["", f"    def {name}(self, {argument}):", *(f"        {line}" for line in body)]


@st.composite
def programs(draw: Any, size: int = 9) -> str:
    """A module's source; `size` is the most statements of a function."""
    e = Expressions(draw)
    start = Scope(text=("text",))
    lines = [PREAMBLE]
    helpers: list[str] = []
    if e.chance(60):
        lines += ["", "class Inner(Asking):", *_forward(e, start, "dspy.Prediction(answer={})", 3)]
        e = Expressions(draw, modules=("inner",))
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
    return "\n".join([*lines, *_method("forward", "text", body)]) + "\n"


def _forward(e: Expressions, scope: Scope, returned: str, size: int) -> list[str]:
    return _method("forward", "text", Statements(e, returned).body(scope, size))[1:]
