"""What is in objects that are no plain data: what Python hands out of them, and whom it asks to print or compare."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import enum
import functools
import logging
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import dspy
import pydantic
import pytest

from dspy_parallel.analysis.thread_needs import placement_for

from .test_hidden_code import block


class Client:
    def get(self) -> Any:
        return block()


class Noisy:
    def __repr__(self) -> str:
        return str(block())

    def __eq__(self, other: object) -> bool:
        return bool(block())

    def __hash__(self) -> int:
        return int(block())

    def __lt__(self, other: object) -> bool:
        return bool(block())


class Pair(NamedTuple):
    client: Any
    number: int = 1


class Registry(dict[str, Any]): ...


class Clients(list[Any]): ...


class Bag(set[Any]): ...


class Named(collections.UserDict[str, Any]): ...


class Failed(Exception): ...


class Row(dspy.Example): ...


@dataclasses.dataclass
class Note:
    inner: Any


@dataclasses.dataclass(frozen=True, order=True)
class Frozen:
    inner: Any


@dataclasses.dataclass
class Slotted:
    __slots__ = ("inner",)
    inner: Any


class Inner(pydantic.BaseModel):
    text: str = ""

    @pydantic.field_serializer("text")
    def serialized(self, value: str) -> str:
        return str(block())


class Outer(pydantic.BaseModel):
    inner: Any = None
    _client: Any = pydantic.PrivateAttr(default=None)

    def ask(self) -> Any:
        return self._client.get()


class Open(pydantic.BaseModel, extra="allow"): ...


class Cursor:
    def __iter__(self) -> Cursor:
        return self

    def __next__(self) -> Any:
        return block()


class Rows:
    def __iter__(self) -> Iterator[Any]:
        return Cursor()

    def __reversed__(self) -> Iterator[Any]:
        return Cursor()


class Sum:
    def __add__(self, other: object) -> Cursor:
        return Cursor()


class Kind(enum.Enum):
    ONE = 1

    def ask(self) -> Any:
        return clients_of[self].get()


client, noisy = Client(), Noisy()
pair, registry, clients, bag = Pair(client), Registry(x=client), Clients([client]), Bag([client])
named = Named(x=client)
row, note, frozen, noisy_pair = Row(client=client), Note(noisy), Frozen(noisy), Pair(noisy)
outer, private, opened, failed = Outer(inner=Inner()), Outer(), Open(**{"client": client}), Failed(noisy)
private._client = client
rows, space, part = Rows(), types.SimpleNamespace(inner=noisy), functools.partial(print, noisy)
nothing, slotted, clients_of = contextlib.nullcontext(client), Slotted(noisy), {Kind.ONE: client}
predict = dspy.Predict("q -> a")


class Lazy:
    __match_args__ = ("client",)

    @property
    def client(self) -> Any:
        return block()


class Holder:
    __match_args__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


lazy, of_client, of_lazy = Lazy(), Holder(client), Holder(Lazy())


def matches_position(q: Any) -> Any:
    match lazy:
        case Lazy(found):
            return found


def matches_inner(q: Any) -> Any:
    match of_lazy:
        case Holder(inner=Lazy(client=found)):
            return found


def captures(q: Any) -> Any:
    match {"a": [of_client]}:
        case {"a": [Holder(found)]}:
            return found.get()


class Key:
    def __hash__(self) -> int:
        return int(block())


class Parent:
    session: Any = None

    def go(self) -> Any:
        return block()

    @property
    def name(self) -> Any:
        return block()


class Child(Parent):
    def go(self) -> Any:
        return super(Child, self).go()  # noqa: UP008

    def ask(self) -> Any:
        return self.session.get()


class Late:
    def __getattr__(self, name: str) -> Any:
        return client


@functools.lru_cache
def cached(key: Any) -> int:
    return 1


key, parent, child, late, proxy = Key(), Parent(), Child(), Late(), weakref.proxy(client)
read = functools.partial(getattr, parent)


def sets_on_class(q: Any) -> Any:
    Parent.session = client
    return child.ask()


def sets_before(q: Any) -> Any:
    late.client = None  # type: ignore[attr-defined]
    return late.client.get()


def sets_on_function(q: Any) -> Any:
    def inner() -> Any:
        return inner.client.get()  # type: ignore[attr-defined]

    inner.client = client  # type: ignore[attr-defined]
    return inner()


def sorts(q: Any) -> Any:
    items = [client, client]
    items.sort(key=lambda each: each.get())


class Descriptor:
    def __get__(self, owner: Any, cls: Any) -> Any:
        return 1

    def __set__(self, owner: Any, value: Any) -> None:
        block()


@dataclasses.dataclass
class Described:
    field: Any = Descriptor()


@dataclasses.dataclass
class Setting:
    field: Any = 1

    def __setattr__(self, name: str, value: Any) -> None:
        block()


@dataclasses.dataclass
class Asking:
    pool: dataclasses.InitVar[Any] = client

    def __post_init__(self, pool: Any) -> None:
        pool.get()


class Service(pydantic.BaseModel):
    field: Any = pydantic.Field(default_factory=lambda: client)
    other: Any = client


class Holding(pydantic.BaseModel):
    text: str = ""
    _made: Any = pydantic.PrivateAttr(default_factory=Client)

    def ask_made(self) -> Any:
        return self._made.get()


MADE: list[Callable[[Any], Any]] = [
    *(
        lambda q: Described(1),
        lambda q: Described(),
        lambda q: Setting(1),
        lambda q: Asking(client),
        lambda q: Asking(),
    ),
    *(lambda q: Service().field.get(), lambda q: Service().other.get()),
    lambda q: dspy.Predict("q -> holding: Holding")(q=q).holding.ask_made(),
    lambda q: Open(**{"client": client}).client.get(),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("number", range(len(MADE)))
def test_what_a_record_is_made_of_is_looked_at(number: int) -> None:
    assert placement_for(MADE[number], ("a b",)).engine == "thread"


class Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        block()


heard = logging.getLogger("tests.analysis.heard")
heard.addHandler(Handler())
heard.propagate = False
HIDDEN: list[Callable[[Any], Any]] = [
    *(
        lambda q: logging.getLogger(name="tests.analysis.heard").info(q),
        lambda q: logging.LoggerAdapter(heard, {}).info(q),
    ),
    lambda q: functools.partial(logging.getLogger, "tests.analysis.heard")().info(q),
    *(sets_on_class, sets_before, sets_on_function, sorts, lambda q: child.go(), lambda q: proxy.get()),
    *(lambda q: read("name", "other"), lambda q: cached(key)),
]


@pytest.mark.parametrize("number", range(len(HIDDEN)))
def test_what_is_reached_by_another_way_is_looked_at(number: int) -> None:
    assert placement_for(HIDDEN[number], ("a b",)).engine == "thread"


def unpacks(q: Any) -> Any:
    first, _ = pair
    return first.get()


def adds_item(q: Any) -> Any:
    made = Registry()
    made["x"] = client
    return made["x"].get()


def appends(q: Any) -> Any:
    made = Clients()
    made.append(client)
    return made[0].get()


def raises(q: Any) -> Any:
    try:
        raise Failed(client)
    except Failed as error:
        return error.args[0].get()


def raises_known(q: Any) -> Any:
    try:
        raise ValueError(client)
    except ValueError as error:
        return error.args[0].get()


def enters(q: Any) -> Any:
    with nothing as found:
        return found.get()


HANDED_OUT: list[Callable[[Any], Any]] = [
    *(matches_position, matches_inner, captures),
    *(unpacks, adds_item, appends, raises, raises_known, enters, lambda q: pair[0].get(), lambda q: pair.client.get()),
    *(lambda q: Pair(client)[0].get(), lambda q: pair._asdict()["client"].get(), lambda q: registry["x"].get()),
    *(lambda q: registry.get("x").get(), lambda q: [each.get() for each in registry.values()]),  # type: ignore[union-attr]
    *(lambda q: Registry(x=client)["x"].get(), lambda q: [each.get() for each in clients], lambda q: clients[0].get()),
    *(lambda q: [each.get() for each in bag], lambda q: named["x"].get(), lambda q: named.get("x").get()),  # type: ignore[union-attr]
    *(lambda q: row.client.get(), lambda q: row["client"].get(), lambda q: Row(client=client).client.get()),
    *(lambda q: private.ask(), lambda q: opened.client.get(), lambda q: [kind.ask() for kind in Kind]),  # type: ignore[attr-defined]
    *(
        lambda q: list(rows),
        lambda q: [*rows],
        lambda q: "x" in rows,
        lambda q: list(reversed(rows)),
    ),
    *(lambda q: [each for each in rows], lambda q: dict(zip(rows, rows, strict=True)), lambda q: list(Sum() + 1)),
]
OPERATED: list[Callable[[Any], Any]] = [
    *(lambda q: f"{note}", lambda q: note == Note(1), lambda q: {frozen}, lambda q: sorted([frozen, frozen])),
    *(lambda q: dataclasses.asdict(note), lambda q: f"{Note(noisy)}", lambda q: str(slotted)),
    *(lambda q: str(noisy_pair), lambda q: Outer(inner=Inner()) == q),
    *(lambda q: noisy_pair == q, lambda q: f"{Registry(x=noisy)}", lambda q: f"{space}", lambda q: f"{part}"),
    *(lambda q: str(failed), lambda q: outer.model_dump(), lambda q: f"{outer}", lambda q: outer == Outer()),
    *(lambda q: predict(q=outer), lambda q: predict(q=[note]), lambda q: print(note)),
]


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    with dspy.context(lm=dspy.LM("openai/any", api_key="none"), adapter=dspy.ChatAdapter(), callbacks=[]):
        yield


@pytest.mark.parametrize("number", range(len(HANDED_OUT)))
def test_what_python_hands_out_of_an_object_is_looked_at(number: int) -> None:
    assert placement_for(HANDED_OUT[number], ("a b",)).engine == "thread"


@pytest.mark.parametrize("number", range(len(OPERATED)))
def test_operators_of_a_record_are_those_of_its_fields_too(number: int) -> None:
    assert placement_for(OPERATED[number], ("a b",)).engine == "thread"


kept: list[Any] = [Pair("a"), Registry(x="a"), Clients(["a"]), Row(client="a"), Slotted("a"), Open(**{"client": "a"})]


def looks(q: Any) -> Any:
    return [each == q for each in kept], Pair(q).client, Clients([q])[0], Note(q) == note_of_text, f"{note_of_text}"


note_of_text = Note("text")


def test_what_is_in_them_is_looked_at_anew_when_it_has_changed() -> None:
    assert placement_for(looks, ("a",)).engine == "loop"
    changes: list[Callable[[], Any]] = [
        lambda: kept.__setitem__(0, noisy_pair),
        lambda: kept[1].update(y=noisy),
        lambda: kept[2].append(noisy),
        lambda: kept[3].update(client=noisy) if hasattr(kept[3], "update") else kept[3].__setattr__("client", noisy),
        lambda: setattr(kept[4], "inner", noisy),
        lambda: setattr(kept[5], "client", noisy),
        lambda: setattr(note_of_text, "inner", noisy),
    ]
    fresh = [Pair("a"), Registry(x="a"), Clients(["a"]), Row(client="a"), Slotted("a"), Open(**{"client": "a"})]
    for number, change in enumerate(changes):
        change()
        assert placement_for(looks, ("a",)).engine == "thread", number
        kept[:] = [fresh[n] if n == number else each for n, each in enumerate(kept)]
        note_of_text.inner = "text"
        assert placement_for(looks, ("a",)).engine == "loop", number


def test_a_condition_asks_nothing_of_what_is_in_it() -> None:
    assert placement_for(lambda q: 1 if note else 2, ("a",)).engine == "loop"
    assert placement_for(lambda q: not note or q, ("a",)).engine == "loop"
