"""What tells inputs from inputs and programs from programs, and that it is the same in every process."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import os
import pathlib
import subprocess
import sys
import threading
import uuid
import zoneinfo
from collections.abc import Callable
from types import ModuleType
from typing import Any

import dspy
import pydantic
import pytest
from dspy.utils import DummyLM

from dspy_parallel import BatchInputError, async_module
from dspy_parallel.batches.fingerprints import fingerprint, identity_of

numpy = pytest.importorskip("numpy")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Text(str):
    pass


class Colour(enum.Enum):
    RED, BLUE = 1, 2


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Point:
    x: int
    y: int = dataclasses.field(default=0, repr=False, compare=False)


class Question(pydantic.BaseModel, extra="allow"):
    text: str = "?"
    tenant: str = pydantic.Field("", exclude=True)
    token: pydantic.SecretStr = pydantic.SecretStr("")
    _mark: int = pydantic.PrivateAttr(0)


class Other(Question):
    pass


def marked(value: Any, name: str) -> Any:
    setattr(value, name, 1)
    return value


Pair = collections.namedtuple("Pair", "a b")
MOMENT = datetime.datetime(2024, 10, 27, 2, 30)
BERLIN, PARIS = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Paris")
DIFFERENT: list[Any] = [
    *(None, True, 1, 1.0, False, 0, 0.0, -0.0, float("nan"), float("inf"), Level.LOW, 1j, 10**5000),
    *("1", "", "a\nb", "é", "e\u0301", "\ud800", Text("1"), marked(Text("1"), "mark"), b"1", bytearray(b"1")),
    *(
        [],
        (),
        {},
        set(),
        frozenset(),
        [1],
        (1,),
        {1},
        [[1]],
        [1, [2]],
        [[1], 2],
        ["ab"],
        ["a", "b"],
        Pair(1, 2),
        (1, 2),
    ),
    *({"x": 1, "y": 2}, {"y": 2, "x": 1}, {1: "a"}, {"1": "a"}, {True: "a"}, {"a": 1}),
    *(collections.OrderedDict(a=1), collections.Counter(a=1), collections.deque([1]), range(3), range(4)),
    *(Colour.RED, Colour.BLUE, Point(1), Point(1, 2)),
    *(Question(), Question(text=""), Question(tenant="A"), Question(tenant="B"), Question(token="A"), Other()),
    *(Question(token="B"), Question(more=1), marked(Question(), "_mark")),
    *(pydantic.SecretStr("A"), pydantic.SecretStr("B"), pydantic.HttpUrl("http://a"), pydantic.HttpUrl("http://b")),
    *(MOMENT, MOMENT.replace(fold=1), MOMENT.replace(tzinfo=datetime.timezone.utc), MOMENT.date(), MOMENT.time()),
    *(MOMENT.replace(tzinfo=BERLIN), MOMENT.replace(tzinfo=BERLIN, fold=1), MOMENT.replace(tzinfo=PARIS)),
    MOMENT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
    *(decimal.Decimal("1.0"), decimal.Decimal("1.00"), uuid.UUID(int=1), pathlib.PurePosixPath("1")),
    *(numpy.int64(1), numpy.float32(1), numpy.array([1]), numpy.array([[1]]), numpy.array([1.0])),
    *(dspy.Example(a=1), dspy.Prediction(a=1), dspy.Image(url="http://a"), dspy.Image(url="http://b")),
]


def of(value: Any) -> bytes:
    return fingerprint(0, (value,), {"more": value})


def test_inputs_that_a_prompt_can_tell_apart() -> None:
    """Each from each; and a copy is the same."""
    found: dict[bytes, Any] = {}
    for value in DIFFERENT:
        other = found.setdefault(of(value), value)
        assert other is value, f"{value!r} is taken for {other!r}"
        assert of(copy.deepcopy(value)) == of(value)
    circle: list[Any] = []
    circle.append(circle)
    assert of(circle) != of([[]])
    assert fingerprint(0, (1, 2), {}) != fingerprint(0, (1,), {"a": 2})


def test_inputs_that_show_nothing_are_refused() -> None:
    """Their text is an address, another one in each process."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (object(), type("Local", (), {})(), lambda: 1, print, (n for n in ()), threading.Lock(), deep):
        with pytest.raises(BatchInputError, match="Example 7 cannot be serialised"):
            fingerprint(7, (value,), {})
    while deep:  # the interpreter's own recursion, were it left to it
        deep = deep[0]


# Programs


def summarize(text: str) -> str:
    return f"summary of {text}"


def translate(text: str) -> str:
    return f"translation of {text}"


class Agent:
    def __init__(self, style: Any) -> None:
        self.style = style

    def run(self, text: str) -> str:
        return f"{self.style} {text}"

    def __call__(self, text: str) -> str:
        return f"{text} {self.style}"

    @classmethod
    def make(cls, text: str) -> str:
        return text


class Slim:
    __slots__ = ("style",)

    def __init__(self, style: str) -> None:
        self.style = style

    __call__ = Agent.run


class Ask(dspy.Module):
    def __init__(self, signature: Any = "question -> answer", tries: int = 1, **config: Any) -> None:
        super().__init__()
        self.ask = dspy.Predict(signature, **config)
        self.tries = tries

    def forward(self, question: str) -> Any:
        return self.ask(question=question)


def closed_over(style: str) -> Callable[[str], str]:
    def program(text: str) -> str:
        return style + text

    return program


def with_default(style: str) -> Callable[..., str]:
    def program(text: str, *, style: str = style) -> str:
        return style + text

    return program


def instructed(text: str) -> Ask:
    program = Ask()
    program.ask.signature = program.ask.signature.with_instructions(text)
    return program


def shown(text: str) -> Ask:
    program = Ask()
    program.ask.demos = [dspy.Example(question=text, answer="b")]
    return program


def typed(annotation: Any, **options: Any) -> Any:
    return dspy.Predict(dspy.Signature({"q": (str, dspy.InputField()), "a": (annotation, dspy.OutputField(**options))}))


def in_module(source: str) -> Any:
    module = ModuleType("somewhere")
    exec("import dspy, functools, re\n" + source, vars(module))
    return module.program  # type: ignore[attr-defined]


def tool(result: int) -> Any:
    return in_module(f"def program(x: int) -> int: return {result}")


PAIRS: dict[str, tuple[Any, Any]] = {
    "functions": (summarize, translate),
    "partials": (functools.partial(summarize), functools.partial(translate)),
    "arguments": (functools.partial(summarize, text="a"), functools.partial(summarize, text="b")),
    "partials of methods": (functools.partial(Agent("a").run), functools.partial(Agent("b").run)),
    "lambdas": (lambda text: summarize(text), lambda text: translate(text)),
    "constants": (lambda n: n + 1, lambda n: n + 2),
    "zeros": (lambda: 0.0, lambda: -0.0),
    "inner lambdas": (lambda n: (lambda: n + 1)(), lambda n: (lambda: n + 2)()),
    "methods": (Agent("a").run, Agent("b").run),
    "a method and its object": (Agent("a").run, Agent("a")),
    "a method of the class": (Agent.make, Agent("a").run),
    "objects": (Agent("a"), Agent("b")),
    "objects deep down": (Agent([{1: Agent("a")}]), Agent([{1: Agent("b")}])),
    "slots": (Slim("a"), Slim("b")),
    "closures": (closed_over("a"), closed_over("b")),
    "defaults": (with_default("a"), with_default("b")),
    "builtins": ("".join, ",".join),
    "caches": (functools.cache(lambda n: n + 1), functools.cache(lambda n: n + 2)),
    "attributes": (Ask(tries=1), Ask(tries=2)),
    "config": (Ask(), Ask(temperature=0.5)),
    "fields": (Ask(), Ask("question -> reply")),
    "types": (typed(int), typed(float)),
    "types of enums": (typed(Colour), typed(Level)),
    "descriptions": (typed(int), typed(int, desc="how many")),
    "constraints": (typed(int), typed(int, ge=3)),
    "demos": (shown("a"), shown("b")),
    "instructions": (instructed("a"), instructed("b")),
    "modules": (dspy.Predict("q -> a"), dspy.ChainOfThought("q -> a")),
    "tools": (dspy.ReAct("q -> a", tools=[tool(1)]), dspy.ReAct("q -> a", tools=[tool(2)])),
} | {
    f"code: {name}": (in_module(source.format(1)), in_module(source.format(2)))
    for name, source in {
        "a helper": "def helper(): return {0}\ndef program(n): return helper()",
        "helpers that call each other": "def f(): return program\ndef program(n): return f() or {0}",
        "a class": "class Helper:\n def run(self): return {0}\ndef program(n): return Helper().run()",
        "a base": "class Base:\n x = {0}\nclass Helper(Base): pass\ndef program(n): return Helper().x",
        "a number": "LIMIT = {0}\ndef program(n): return LIMIT",
        "a dict": "PROMPTS = dict(a='{0}')\ndef program(n): return PROMPTS['a']",
        "a pattern": "FOUND = re.compile('{0}')\ndef program(n): return FOUND.match(n)",
        "a predictor": "ask = dspy.Predict('q -> a', n={0})\ndef program(n): return ask(q=n)",
        "what is decorated": "@functools.cache\ndef helper(): return {0}\ndef program(n): return helper()",
        "what is caught": "def program(n):\n try: n()\n except (KeyError, ValueError)[{0} - 1]: pass",
        "forward": "class Ask(dspy.Module):\n def forward(self, q): return {0}\nprogram = Ask()",
        "async": "async def program(n): return {0}",
    }.items()
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=list(PAIRS))
def test_programs_that_are_not_the_same(one: Any, other: Any) -> None:
    assert identity_of(one) != identity_of(other)
    assert identity_of(one) == identity_of(one)


def test_a_program_stays_itself(tmp_path: pathlib.Path) -> None:
    """Made anew, copied, with another LM, after a run, compiled, saved and loaded, and made awaitable."""
    known = identity_of(shown("a"))
    ran, loaded, compiled = shown("a"), Ask(), shown("a")
    ran.set_lm(DummyLM([{"answer": "yes"}]))
    ran(question="?")
    compiled._compiled = True
    compiled.save(tmp_path / "program.json")
    loaded.load(tmp_path / "program.json")
    for same in (shown("a"), shown("a").deepcopy(), ran, compiled, loaded):
        assert identity_of(same) == known
    before = identity_of(Ask())

    class Awaitable(Ask):
        pass

    plain = identity_of(Awaitable())
    async_module(Awaitable)
    assert identity_of(Awaitable()) == plain
    assert identity_of(Ask()) == before
    machinery = (threading.Lock(), threading.Thread(), threading.local(), sys.stdout)
    assert identity_of(Agent(list(machinery))) == identity_of(Agent(list(machinery)))


def test_every_process_says_the_same() -> None:
    """However strings are hashed there."""
    source = (
        "import json, sys\n"
        "from tests.batch import test_fingerprints as t\n"
        "programs = [t.identity_of(one) for one, _ in t.PAIRS.values()]\n"
        "json.dump([programs, [t.of(value).hex() for value in t.DIFFERENT]], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        capture_output=True,
        check=True,
        timeout=280,
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=pathlib.Path(__file__).parents[2],
    )
    programs = [list(identity_of(one)) for one, _ in PAIRS.values()]
    assert json.loads(done.stdout) == [programs, [of(value).hex() for value in DIFFERENT]]
