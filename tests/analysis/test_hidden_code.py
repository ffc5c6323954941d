"""Code that hides where a reader does not expect any: the decision finds it, runs none of it, and hears of changes."""

# ruff: noqa: UP031, B024

from __future__ import annotations

import abc
import builtins
import collections
import copy
import dataclasses
import datetime
import enum
import functools
import itertools
import json
import logging
import operator
import pprint
import queue
import random
import string
import threading
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dspy
import pydantic
import pytest
from dspy.evaluate import CompleteAndGrounded, SemanticF1
from dspy.utils.callback import BaseCallback

from dspy_parallel.analysis.thread_needs import placement_for

pool: Any = queue.Queue()
ran: list[str] = []


def block(*args: Any, **kwargs: Any) -> Any:
    ran.append("block")
    return pool.get(timeout=1)


def clean(*args: Any, **kwargs: Any) -> str:
    return "clean"


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    with dspy.context(lm=dspy.LM("openai/any", api_key="none"), adapter=dspy.ChatAdapter(), callbacks=[]):
        yield


def engine_of(program: Any, *args: Any, **kwargs: Any) -> str:
    ran.clear()
    engine = placement_for(program, args or ("a b",), kwargs).engine
    assert not ran, "the decision has run code of the program's"
    return engine


# What hides


class Dynamic:
    def __getattr__(self, name: str) -> Any:
        return block(name)


class Guarded:
    def __getattribute__(self, name: str) -> Any:
        return block(name)


class Descriptor:
    def __get__(self, owner: Any, cls: Any) -> Any:
        return block()

    def __set__(self, owner: Any, value: Any) -> None:
        block()


class Described:
    described, dynamic, guarded = Descriptor(), Dynamic(), Guarded()


class Meta(type):
    __getattr__ = __iter__ = __len__ = __contains__ = __instancecheck__ = __subclasscheck__ = block  # type: ignore[assignment]


class OfMeta(metaclass=Meta): ...


class Hooked(abc.ABC):
    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return bool(block())


@typing.runtime_checkable
class Asks(typing.Protocol):
    member: int


OPERATORS = (
    "add radd lt eq bool len hash contains getitem setitem delitem format repr index int float neg matmul reversed "
    "round next abs bytes divmod pow and invert iter copy deepcopy str"
)
Operated: Any = type("Operated", (), {f"__{name}__": lambda *args: block() for name in OPERATORS.split()})
Operated.__module__ = __name__


class Ends:
    def __del__(self) -> None:
        block()


@dataclasses.dataclass
class Made:
    field: Any = dataclasses.field(default_factory=block)


class Missed(enum.Enum):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        return block()


class Computed(pydantic.BaseModel):
    text: str = ""

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def computed(self) -> str:
        return str(block())


class Serialized(pydantic.BaseModel):
    text: str = ""

    @pydantic.model_serializer
    def serialized(self) -> str:
        return str(block())


class Checked(pydantic.BaseModel):
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def checked(cls, value: str) -> Any:
        return block()


class Shown(dspy.Type):
    text: str = ""

    def format(self) -> Any:
        return block()


class Keys:
    keys = block

    def __getitem__(self, key: str) -> str:
        return key


class Missing(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        return block()


class Calls(functools.partial[Any]): ...


class Makes(collections.defaultdict[str, Any]): ...


class Turns(map): ...  # type: ignore[type-arg]


class Draws(random.Random):
    random = block


class Fills(string.Formatter):
    get_value = block


class Zone(datetime.tzinfo):
    utcoffset = block


class Nameless:
    __call__ = block


Nameless.__module__ = property(lambda self: 1)  # type: ignore[assignment]


class Searches(dspy.Retrieve):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return block()


class Inherited(dict[str, Any]):
    class Parent:
        def go(self) -> Any:
            return block()

    class Child(Parent):
        def go(self) -> Any:
            return super().go()


class Locked:
    lock = threading.Lock()

    @classmethod
    def go(cls) -> Any:
        return block()


class Takes:
    __class_getitem__ = classmethod(block)  # type: ignore[arg-type]


class Writes:
    write = block


class Kept:
    def __init__(self) -> None:
        self.text = ""

    __getstate__ = block


class Restored(Kept):
    __setstate__ = block

    def __getstate__(self) -> Any:
        return {}


@dataclasses.dataclass(frozen=True)
class Frozen:
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", Locked())


@dataclasses.dataclass
class Remade:
    text: str = ""

    def __post_init__(self) -> None:
        if self.text:
            block()


class Told(Exception):
    def __str__(self) -> str:
        return str(block())


class Assigned(pydantic.BaseModel, validate_assignment=True):
    text: str = ""
    _made: Any = pydantic.PrivateAttr(default=None)

    @pydantic.field_validator("text")
    @classmethod
    def checked(cls, value: str) -> Any:
        return block()


class Private(pydantic.BaseModel):
    _made: Any = pydantic.PrivateAttr(default_factory=block)


@pydantic.dataclasses.dataclass
class CheckedToo:
    text: str

    @pydantic.field_validator("text")
    @classmethod
    def checked(cls, value: str) -> Any:
        return block()


@pydantic.validate_call
def validated(q: str) -> Any:
    return block()


class Level(enum.Enum):
    ONE = 1

    def go(self) -> Any:
        return block()


predict = dspy.Predict("q -> a")
dynamic, described, operated, searches, child = Dynamic(), Described(), Operated(), Searches(), Inherited.Child()
calls, makes, draws, fills, zone, nameless = Calls(block), Makes(block), Draws(), Fills(), Zone(), Nameless()
keys, missing, fails, guarded = Keys(), Missing(), dspy.Predict("q -> item: Checked"), Guarded()
chained = collections.ChainMap(missing)
kept, restored, remade, assigned, writes = Kept(), Restored(), Remade(), Assigned.model_construct(), Writes()
grouped: dict[str, Any] = collections.defaultdict(lambda: [block()])
mapped, numbered, cycled = map(block, range(9)), enumerate(map(block, range(9))), itertools.cycle(map(block, range(9)))
zipped, linked, view = zip(filter(block, "ab")), itertools.chain(map(block, "ab")), types.MappingProxyType(missing)


def matches(q: Any) -> Any:
    match q:
        case OfMeta():
            return 1


def deletes(q: Any) -> None:
    del operated[1]


def augments(q: Any) -> None:
    described.described += 1


def sends(q: Any) -> None:
    async def inner() -> None:
        block()

    inner().send(None)


def names_type(q: Any) -> Any:
    kind = "Checked"
    return dspy.Predict(f"q -> item: list[{kind}]")(q=q)


def patches(q: Any) -> Any:
    json.dumps = block
    return json.dumps(q)


def updates(q: Any) -> Any:
    table: dict[str, Any] = {}
    table.update(call=block)
    return table["call"]()


def rebinds(q: Any) -> Any:
    call: Any = len

    def inner() -> None:
        nonlocal call
        call = block

    inner()
    return call(q)


def holds_a_lock(q: Any) -> Any:
    with locked.__class__.lock:
        return predict(q=q)


def hears(q: Any) -> Any:
    try:
        raise Told
    except Exception as exc:
        return f"{exc}"


def assigns(q: Any) -> None:
    assigned.text = q


def hangs_on(q: Any) -> Any:
    space = types.SimpleNamespace()
    space.hook = block
    return space.hook(q)


def spreads(q: Any) -> Any:
    return {**keys}


def warns(q: Any) -> None:
    warnings.warn(q, stacklevel=2)


locked = Locked()
PROGRAMS: list[Callable[[Any], Any]] = [
    *(holds_a_lock, hears, assigns, hangs_on, spreads, lambda q: locked.__class__.go(), lambda q: locked.go.__call__()),
    *(lambda q: Inherited.Child.__mro__[1].go(q), lambda q: Inherited.Parent.__subclasses__()[0]().go()),
    *(lambda q: Level.__members__[q].go(), lambda q: Takes[q], lambda q: grouped[q], lambda q: next(mapped)),
    *(lambda q: list(numbered), lambda q: [*cycled], lambda q: next(zipped), lambda q: next(linked), lambda q: view[q]),
    *(lambda q: print(q, file=writes), lambda q: pprint.pprint(q, stream=writes), lambda q: copy.copy(kept)),
    *(lambda q: copy.deepcopy(restored), lambda q: dataclasses.replace(remade, text=q), lambda q: Frozen().inner.go()),
    *(lambda q: Private(), lambda q: CheckedToo(q), lambda q: validated(q)),
    *(lambda q: string.Formatter().format("{0.described}", described),),
    *(matches, deletes, augments, sends, names_type, patches, updates, rebinds),
    *(lambda q: described.described, lambda q: described.dynamic.x, lambda q: described.guarded.x),
    *(lambda q: dynamic.x, lambda q: guarded.x, lambda q: hasattr(dynamic, "x"), lambda q: getattr(dynamic, "x" + q)),
    *(lambda q: operator.attrgetter("x")(dynamic), lambda q: operator.methodcaller("get")(pool)),
    *(lambda q: OfMeta.x, lambda q: list(OfMeta), lambda q: len(OfMeta), lambda q: q in OfMeta),
    *(lambda q: isinstance(q, OfMeta), lambda q: issubclass(str, OfMeta), lambda q: isinstance(q, Hooked)),
    *(lambda q: isinstance(dynamic, Asks), lambda q: Ends(), lambda q: Made().field, lambda q: Missed(q)),
    *(lambda q: Computed().computed, lambda q: Computed().model_dump(), lambda q: str(Computed())),
    *(lambda q: Serialized().model_dump_json(), lambda q: predict(q=Serialized()), lambda q: predict(q=[Serialized()])),
    *(lambda q: predict(q=Shown()), lambda q: dspy.Predict("q -> item: Checked")(q=q), lambda q: fails(q=q)),
    *(lambda q: dspy.ChainOfThought(dspy.Signature("q -> items: dict[str, Checked]"))(q=q), lambda q: dict(**keys)),
    *(lambda q: calls(q), lambda q: Calls(block)(q), lambda q: list(map(calls, q)), lambda q: makes[q]),
    *(lambda q: list(Turns(block, q)), lambda q: draws.choice(q), lambda q: fills.format("{x}"), lambda q: chained[q]),
    *(lambda q: datetime.datetime.now(zone), lambda q: nameless(q)),
    *(lambda q: missing["x"], lambda q: searches(q), lambda q: child.go(), lambda q: dspy.Image.from_file(q)),
    *(lambda q: dspy.configure(lm=None), lambda q: operated + 1, lambda q: 1 + operated, lambda q: operated < 1),
    *(lambda q: not operated, lambda q: {operated}, lambda q: 1 in [operated], lambda q: operated[1]),
    *(lambda q: f"{operated:>3}", lambda q: f"{[operated]!r}", lambda q: "%s" % operated, lambda q: [1, 2][operated]),
    *(lambda q: -operated, lambda q: operated @ 1, lambda q: round(operated), lambda q: next(operated)),
    *(lambda q: sorted([operated, operated]), lambda q: sum([operated]), lambda q: [*operated]),
    *(lambda q: [1].index(operated), lambda q: (operated,) < (operated,), lambda q: collections.Counter([operated])),
    *(lambda q: functools.reduce(operator.add, [operated, operated]), lambda q: list(itertools.starmap(block, [q]))),
    *(lambda q: list(filter(block, q)), lambda q: min(q, key=block), lambda q: list(iter(pool.get, 1))),
    *(
        lambda q: collections.deque([block]).popleft()(),
        lambda q: ({} | {"x": block})["x"](),
        lambda q: print(*operated),
    ),
]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_hidden_code_runs_in_a_thread_and_not_while_it_is_looked_for(number: int) -> None:
    assert engine_of(PROGRAMS[number]) == "thread"


def test_whoever_shows_warnings_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings._showwarning_orig)  # type: ignore[attr-defined]
    assert engine_of(warns) == "loop"
    monkeypatch.setattr(warnings, "showwarning", block)
    assert engine_of(warns) == "thread"


rounds, counts = itertools.cycle(["one", "two"]), collections.defaultdict(int)


def test_what_makes_items_of_data_alone_runs_on_the_loop() -> None:
    assert engine_of(lambda q: (next(rounds), counts[q])) == "loop"


# What changes


class Program(dspy.Module):
    constant = 1

    def __init__(self) -> None:
        super().__init__()
        self.predict, self.hook, self.hooks, self.table = predict.deepcopy(), clean, [clean], {"hook": clean}
        self.inner, self.space = None, types.SimpleNamespace(hook=clean)

    def helper(self) -> int:
        return self.constant

    def forward(self, q: str) -> Any:
        self.hook(q), self.table["hook"](q), self.space.hook(q), [hook(q) for hook in self.hooks]
        self.inner and self.inner(q=q)
        used(q), table["hook"](q), closure(q), defaults(q), json.dumps(q), print(q), logger.info(q)
        return self.helper(), self.predict(q=q)


def make_closure(hook: Any) -> Any:
    return lambda q: hook(q)


def defaults(q: str, hook: Any = clean) -> Any:
    return hook(q)


used, table, closure, logger = clean, {"hook": clean}, make_closure(clean), logging.getLogger(__name__)


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        block()


class Listener(BaseCallback):
    def on_module_start(self, call_id: str, instance: Any, inputs: Any) -> None:
        block()


class Adapter(dspy.ChatAdapter):
    def parse(self, signature: Any, completion: str) -> Any:
        return block()


class Blocks(dspy.Module):
    def forward(self, q: str) -> Any:
        return block()


def test_what_a_program_holds_is_looked_at_anew_when_it_has_changed() -> None:
    changes: list[Callable[[Any], Any]] = [
        lambda program: setattr(program, "hook", block),
        lambda program: program.hooks.append(block),
        lambda program: program.table.update(hook=block),
        lambda program: setattr(program.space, "hook", block),
        lambda program: setattr(program, "inner", Blocks()),
        lambda program: setattr(program, "forward", block),
        lambda program: setattr(program, "helper", block),
        lambda program: setattr(program.predict, "forward", block),
    ]
    for change in changes:
        program = Program()
        assert engine_of(program) == "loop"
        change(program)
        assert engine_of(program) == "thread"
    assert engine_of(Program()) == "loop"


PLACES: list[tuple[Any, str]] = [
    *((Program, "helper"), (Program, "forward"), (Program, "__call__"), (Program, "__getattribute__")),
    *((json, "dumps"), (builtins, "print"), (dspy.Predict, "forward"), (dspy.Module, "__call__")),
    *((dspy.ChatAdapter, "format"), (dspy.Adapter, "__call__"), (dspy.JSONAdapter, "parse")),
]


@pytest.mark.parametrize(("owner", "name"), PLACES, ids=str)
def test_what_is_patched_is_looked_at_anew(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    assert engine_of(program) == "loop"
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, lambda *args, **kwargs: block())
        assert engine_of(program) == "thread"
    assert engine_of(program) == "loop"


def test_globals_cells_defaults_code_and_settings_are_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    program = Program()
    for change in (
        lambda patch: patch.setitem(globals(), "used", block),
        lambda patch: patch.setitem(globals(), "print", block),
        lambda patch: patch.setitem(table, "hook", block),
        lambda patch: patch.setitem(globals(), "closure", make_closure(block)),
        lambda patch: patch.setattr(closure.__closure__[0], "cell_contents", block),
        lambda patch: patch.setattr(defaults, "__defaults__", (block,)),
        lambda patch: patch.setattr(clean, "__code__", block.__code__),
        lambda patch: patch.setattr(logger, "handlers", [Handler()]),
    ):
        assert engine_of(program) == "loop"
        with monkeypatch.context() as patch:
            change(patch)
            assert engine_of(program) == "thread"
    for setting in ({"callbacks": [Listener()]}, {"adapter": Adapter()}):
        with dspy.context(**setting):
            assert engine_of(program) == "thread"
    assert engine_of(program) == "loop"


# DSPy's own modules


def reward(args: Any, prediction: Any) -> float:
    return float(len(prediction.a))


def test_dspys_own_modules_run_on_the_loop() -> None:
    modules: list[Any] = [
        *(predict, dspy.ChainOfThought("q -> a"), dspy.MultiChainComparison("q -> a"), dspy.ReAct("q -> a", [])),
        *(dspy.BestOfN(predict, N=2, reward_fn=reward, threshold=1.0), dspy.Parallel(), dspy.Retrieve(k=3)),
        *(dspy.Refine(predict, N=2, reward_fn=reward, threshold=1.0), dspy.ReAct("q -> a", [clean])),
        *(dspy.ProgramOfThought("q -> a"), SemanticF1(), CompleteAndGrounded()),
        dspy.Ensemble(reduce_fn=dspy.majority).compile([predict, predict]),
    ]
    if hasattr(dspy, "CodeAct"):
        modules.append(dspy.CodeAct("q -> a", tools=[clean]))
    found = {type(module).__name__: placement_for(module, (), {"q": "?"}) for module in modules}
    assert {name: placement.reason for name, placement in found.items() if placement.engine != "loop"} == {}
