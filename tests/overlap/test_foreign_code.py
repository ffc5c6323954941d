"""The scout runs no code of the user's, and looks at what others have written through what cannot raise."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import dspy
import pydantic
import pytest

from dspy_parallel import async_module, explain
from dspy_parallel.analysis import effect_free, trusted_types
from dspy_parallel.overlap.runtime.snapshot import Snapshot
from dspy_parallel.testing import LMServer
from tests.support.children import PRELOADED, run_child
from tests.support.timed_lm import TimedLM, always

RUN: list[str] = []
"""What has been run of the code below."""


class Row:
    """Has hooks of its own."""

    def __eq__(self, other: object) -> bool:
        RUN.append("__eq__")
        return self is other

    def __hash__(self) -> int:
        RUN.append("__hash__")
        return 1

    def __bool__(self) -> bool:
        RUN.append("__bool__")
        return True

    def __iter__(self) -> Any:
        RUN.append("__iter__")
        return iter(())

    def __len__(self) -> int:
        RUN.append("__len__")
        return 1

    @property
    def title(self) -> str:
        RUN.append("title")
        return "title"

    def __index__(self) -> int:
        RUN.append("__index__")
        return 1

    def text(self) -> str:
        return "t"


@dataclasses.dataclass
class Order:
    text: str

    @property  # type: ignore[no-redef]
    def text(self) -> str:
        return self._text

    @text.setter
    def text(self, value: str) -> None:
        RUN.append(f"set {value}")
        self._text = value


@dataclasses.dataclass
class Hashed:
    row: Any = dataclasses.field(default_factory=Row)


def told(schema: dict[str, Any]) -> None:
    RUN.append("json_schema_extra")


class Told(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(json_schema_extra=told)
    name: str = ""


class Titled(pydantic.BaseModel):
    @property
    def title(self) -> str:
        RUN.append("title")
        return "title"


T = TypeVar("T")


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class Base(dspy.Module):
    """What each program has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = dspy.Predict("x -> y"), dspy.Predict("x -> z")
        self.row = Row()


class Method(Base):
    def forward(self, x: str) -> Any:
        return self.a(x=x).y, self.b(x=self.row.text()).z


class Compared(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        found = self.row in [1, 2] or self.row == y or {self.row: 1} == {}
        return y, found, self.b(x=x).z


class Made(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        order = Order("first")
        return y, order.text, self.b(x=x).z


class Held(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        held = Hashed()
        return y, str(len(held.row)), [*held.row], self.b(x=x).z


class Property(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        if self.row:
            y += self.row.title
        return y, self.b(x=x).z


class Formatted(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        title = "{.title}".format(*[Titled()]) + "{row[0].title}".format_map({"row": [Titled()]})
        return y, title, self.b(x=x).z


class Position(Base):
    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        return y, self.use(), self.b(x=x).z

    def use(self) -> Any: ...


class Sliced(Position):
    def use(self) -> Any:
        return [1, 2][self.row :]


class Ranged(Position):
    def use(self) -> Any:
        return [*range(self.row)]


class Counted(Position):
    def use(self) -> Any:
        return [*enumerate([1], self.row)]


class Cut(Position):
    def use(self) -> Any:
        return [*itertools.islice([1, 2], self.row)]


class Repeated(Position):
    def use(self) -> Any:
        return [1] * self.row


class Popped(Position):
    def use(self) -> Any:
        return [1, 2].pop(self.row)


class Inserted(Position):
    def use(self) -> Any:
        return [1].insert(self.row, 2)  # type: ignore[func-returns-value]


class Ending:
    def __init__(self) -> None:
        self.text = "t"

    def __del__(self) -> None:
        RUN.append("__del__")


class Ended(Base):
    def forward(self, x: str) -> Any:
        ending = Ending()
        return self.a(x=x).y, self.b(x=ending.text).z


class Schema(Base):
    def __init__(self) -> None:
        super().__init__()
        self.c = dspy.Predict(dspy.Signature("x -> told").with_updated_fields("told", type_=Told))

    def forward(self, x: str) -> Any:
        return self.a(x=x).y, self.c(x=x).told.name, self.b(x=x).z


def program(cls: Any, *, overlap: bool) -> Any:
    made = cls()
    if overlap:
        made.__class__ = async_module(type(cls.__name__, (cls,), {}), overlap=True)
    return made


@pytest.mark.parametrize(
    "cls",
    [
        Method,
        Compared,
        Made,
        Held,
        Property,
        Formatted,
        Sliced,
        Ranged,
        Counted,
        Cut,
        Repeated,
        Popped,
        Inserted,
        Ended,
        Schema,
    ],
)
def test_hooks_run_as_often_as_the_program_runs_them(cls: Any) -> None:
    seen = []
    for overlap in (False, True):
        RUN.clear()
        with dspy.context(lm=TimedLM(latency=always(0.0))):
            output = program(cls, overlap=overlap)(x="word")
        gc.collect()
        seen.append((output, list(RUN)))
    assert seen[0] == seen[1]


class Asked(dspy.LM):
    """Has a property in place of one of DSPy's attributes."""

    @property
    def num_retries(self) -> int:
        RUN.append("num_retries")
        return 0

    @num_retries.setter
    def num_retries(self, value: int) -> None:
        pass


def test_an_lm_with_properties_is_not_asked_early() -> None:
    with LMServer() as server, dspy.context(lm=Asked("openai/any", cache=False, **server.lm_kwargs())):
        report = explain(Method(), x="word")
    assert report.early == 0
    assert "properties or methods of your own" in str(report)


class SharedDemo(Base):
    """An attribute of the program's that is also a demo."""

    def __init__(self) -> None:
        super().__init__()
        self.own = dspy.Example(x="q", z="old").with_inputs("x")
        self.b.demos = [self.own]

    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        self.own.z = "new"
        return y, self.b(x=x).z


class SharedConfig(Base):
    def __init__(self) -> None:
        super().__init__()
        self.b.config = self.own = {"temperature": 0.1}

    def forward(self, x: str) -> Any:
        y = self.a(x=x).y
        self.own["temperature"] = 0.9
        return y, self.b(x=x).z


class SharedDemoLate(SharedDemo):
    """Changed by what an LM says."""

    def forward(self, x: str) -> Any:
        self.own.z = self.a(x=x).y
        return self.b(x=x).z


class Identity(Base):
    def __init__(self) -> None:
        super().__init__()
        self.first = ("a", [1])
        self.pairs = [self.first, ("b", [2])]

    def forward(self, x: str) -> Any:
        return [self.a(x=pair[0]).y for pair in self.pairs if pair is not self.first], self.b(x=x).z


@pytest.mark.parametrize("cls", [SharedDemo, SharedConfig, SharedDemoLate, Identity])
def test_what_is_the_programs_and_a_calls_costs_no_extra_request(cls: Any) -> None:
    asked = []
    for overlap in (False, True):
        lm = TimedLM(latency=always(0.0))
        with dspy.context(lm=lm):
            output = program(cls, overlap=overlap)(x="word")
        asked.append((output, sorted(lm.requests)))
    assert asked[0] == asked[1]


class Paced(Base):
    def forward(self, x: str) -> Any:
        found = [self.a(x=x).y]
        for number in range(2):
            time.sleep(0)
            found.append(self.a(x=f"{number}").y)
        return found


def test_time_between_calls_is_an_effect() -> None:
    with dspy.context(lm=TimedLM(latency=always(0.0))):
        report = explain(Paced(), x="word")
    assert report.early <= 1  # the first
    assert "sleep" in str(report)


class Reaching(Base):
    """Has something within reach that is not Python's usual."""

    def __init__(self, held: Any) -> None:
        super().__init__()
        self.held = held

    def forward(self, x: str) -> Any:
        y, z = self.a(x=x).y, self.b(x=x).z
        if x == "never":
            self.held.value = x
        return y, z


def extension_types() -> list[Any]:
    ssl: Any = pytest.importorskip("ssl")
    return [Box("x"), Box[int], T, ssl.create_default_context(), sys.stdout, re_like(), type(T), memoryview(b"x")]


def re_like() -> Any:
    return pydantic.TypeAdapter(list[int])


def test_whatever_is_in_reach_it_overlaps() -> None:
    for held in extension_types():
        with dspy.context(lm=TimedLM(latency=always(0.0))):
            report = explain(Reaching(held), x="word")
        assert report.reasons == [], held
        assert report.early > 0


LOOKS: list[Callable[[Any], Any]] = [
    trusted_types.is_known,
    trusted_types.is_plain,
    trusted_types.is_model,
    trusted_types.runs_on_access,
    trusted_types.methods_of,
    effect_free.is_pure_class,
    effect_free.is_pure_type,
    effect_free.declared,
    effect_free.is_silent,
    effect_free.is_harmless,
    effect_free.is_pure_function,
    effect_free.is_structural,
]


def look_at_all_classes() -> None:
    """Those of some packages, and of what DSPy has imported."""
    for name in ("litellm", "numpy", "requests", "anyio", "sqlite3", "ctypes", "decimal", "tkinter"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    classes: dict[str, dict[int, Any]] = {}
    for name, module in sorted(sys.modules.items()):
        found = classes.setdefault(name.partition(".")[0], {})
        for value in list(getattr(module, "__dict__", {}).values()):
            # isinstance() asks proxies, Django's settings for one. Of a package, some hundred are enough.
            if issubclass(type(value), type) and len(found) < 200:
                found[id(value)] = value
    some = [cls for found in classes.values() for cls in found.values()]
    assert len(some) > 1000
    for cls in some:
        for look in LOOKS:
            look(cls)
        Snapshot(lambda: False).freeze(cls)


def test_no_class_of_the_installed_packages_makes_it_raise() -> None:
    """In a process of its own, in which no other test has imported anything."""
    program = "from tests.overlap.test_foreign_code import look_at_all_classes; look_at_all_classes()"
    run_child(program, python=PRELOADED)
