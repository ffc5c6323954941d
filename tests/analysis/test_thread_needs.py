"""Where `engine="auto"` runs a program is decided from its code."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import dataclasses
import datetime
import enum
import functools
import hashlib
import itertools
import json
import logging
import math
import os
import queue
import random
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
import pytest

from benchmarks.overlap_programs import PROGRAMS
from dspy_parallel import BlockingWarning, placement_of
from dspy_parallel.analysis.thread_needs import placement_for

pool: Any = queue.Queue()
lock = threading.Lock()
condition = threading.Condition()
local = threading.local()
database = sqlite3.connect(":memory:", check_same_thread=False)
context: contextvars.ContextVar[Any] = contextvars.ContextVar("context", default=None)
logger = logging.getLogger("tests.analysis")
words = re.compile(r"\w+")
settings: dict[str, Any] = {"k": 3}
predict = dspy.Predict("question -> answer")
handlers: dict[str, Any] = {"upper": str.upper, "predict": predict}
session: Any = None


@pytest.fixture(autouse=True)
def configured() -> Any:
    with dspy.context(lm=dspy.LM("openai/any", api_key="none"), adapter=None, callbacks=[]):
        yield


# What runs on the loop


@dataclasses.dataclass
class Note:
    text: str
    tags: list[str] = dataclasses.field(default_factory=list)

    def add(self, tag: str) -> Note:
        self.tags.append(tag.strip())
        return self


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(pydantic.BaseModel):
    name: str
    price: float = 0.0
    parts: list[Item] = []

    @pydantic.field_validator("name")
    @classmethod
    def stripped(cls, value: str) -> str:
        return value.strip()


class Extract(dspy.Signature):
    """Extract items."""

    text: str = dspy.InputField()
    items: list[Item] = dspy.OutputField()
    colour: Literal["red", "blue"] = dspy.OutputField()


def plain(question: str) -> str:
    return question.strip().upper()


def everyday(question: str) -> Any:
    print("asked", question)
    logger.info("asked %s", question)
    logging.getLogger(__name__).debug("again")
    key = hashlib.sha256(question.encode()).hexdigest()[:8]
    made = {"id": str(uuid.uuid4()), "at": datetime.datetime.now().isoformat(), "key": key}
    made["home"] = os.getenv("HOME", "") + os.environ.get("LANG", "")
    made["words"] = words.findall(question) + [match.group(0) for match in words.finditer(question)]
    made["sum"] = math.fsum(len(word) for word in made["words"]) + random.random()
    counts = collections.Counter(made["words"])
    best = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
    return json.loads(json.dumps([made, best, sorted(counts, key=counts.get, reverse=True)], default=str))


def calls_predictor(question: str) -> Any:
    answer = predict(question=question).answer
    return dspy.Prediction(answer=answer.strip(), k=settings["k"])


def with_helpers(question: str) -> Any:
    note = Note(question).add("a")
    notes = [note, *[Note(word) for word in question.split()]]
    return "\n".join(each.text + ", ".join(each.tags) for each in notes), Colour("red").value, Colour.BLUE.name


def with_closure(question: str) -> str:
    seen = []

    def remember(word: str) -> str:
        seen.append(word)
        return word

    total = functools.reduce(lambda a, b: a + b, map(remember, question.split()), "")
    return total + ",".join(seen)


def with_context(question: str) -> Any:
    with dspy.context(lm=dspy.LM("openai/other")), contextlib.suppress(KeyError):
        token = context.set(question)
        context.reset(token)
        return predict(question=question)


def from_table(question: str) -> Any:
    return handlers["upper"](question), handlers["predict"](question=question)


@functools.lru_cache
def cached(question: str) -> str:
    return question.title()


def uses_cached(question: str) -> str:
    return cached(question)


def matched(question: str) -> str:
    match question.split():
        case [only]:
            return only
        case [first, *rest] if rest:
            return first
        case _:
            return ""


def imports(question: str) -> str:
    import json
    from collections import Counter

    return json.dumps(Counter(question))


def combined(question: str) -> Any:
    pairs = itertools.chain.from_iterable(zip(question, question, strict=False))
    try:
        return [int(each) for each in pairs]
    except (ValueError, TypeError) as error:
        raise RuntimeError(f"{error}") from error
    finally:
        logger.warning("done")


def extracts(question: str) -> Any:
    found = dspy.Predict(Extract)(text=question)
    return [item.name.lower() for item in found.items for part in item.parts if part.price > 1]


def reads_path(question: str) -> str:
    return Path(question).stem + Path(question).with_suffix(".md").name


ON_LOOP = [
    *(plain, everyday, calls_predictor, with_helpers, with_closure, with_context, from_table, uses_cached, matched),
    *(imports, combined, extracts, reads_path, lambda question: question.strip(), functools.partial(plain)),
]


def named(program: Any) -> str:
    return str(getattr(program, "__qualname__", type(program).__name__))


@pytest.mark.parametrize("program", ON_LOOP, ids=named)
def test_known_code_runs_on_the_loop(program: Any) -> None:
    assert placement_for(program, ("a b",)).reason == ""
    assert placement_for(program, ("a b",)).engine == "loop"
    assert placement_of(program).engine == "loop"


# What runs in a thread


def queue_get(question: str) -> Any:
    return pool.get()


def queue_in_helper(question: str) -> Any:
    return queue_get(question)


def held_in_list(question: str) -> Any:
    clients = [pool]
    return clients[0].get()


def through_alias(question: str) -> Any:
    first: list[Any] = []
    second = first
    first.append(pool)
    return second[0].get()


def through_attribute(question: str) -> Any:
    note: Any = Note(question)
    note.client = pool
    return note.client.get()


def through_global(question: str) -> Any:
    global session
    session = session or pool
    return session.get()


def through_getattr(question: str) -> Any:
    return getattr(pool, "get")()  # noqa: B009


def through_callback(question: str) -> Any:
    return sorted(question, key=lambda _: pool.get())


def through_map(question: str) -> Any:
    return list(map(queue_get, question))


def through_partial(question: str) -> Any:
    return functools.partial(queue_get, question)()


def through_closure(question: str) -> Any:
    def inner() -> Any:
        return pool.get()

    return {1: inner}[1]()


def through_default(question: str, client: Any = pool) -> Any:
    return client.get()


def through_walrus(question: str) -> Any:
    return (client := pool) and client.get()


def through_comprehension(question: str) -> Any:
    return [client.get() for client in (pool,)]


def through_dict(question: str) -> Any:
    return {"pool": pool}["pool"].get()


def through_match(question: str) -> Any:
    match pool:
        case client:
            return client.get()


def through_star(question: str) -> Any:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return args[0].get()

    return inner(*[pool])


def through_kwargs(question: str) -> Any:
    def inner(**kwargs: Any) -> Any:
        return kwargs["client"].get()

    return inner(client=pool)


def through_loop(question: str) -> Any:
    for client in [pool]:
        client.get()


def through_unpacking(question: str) -> Any:
    client, _ = pool, 1
    return client.get()


def through_type(question: str) -> Any:
    return type(pool)().get()


def through_contextvar(question: str) -> Any:
    return context.get().fetch()


def with_lock(question: str) -> Any:
    with lock:
        return question


def with_condition(question: str) -> Any:
    with condition:
        condition.wait()


def with_event(question: str) -> Any:
    threading.Event().wait()


def thread_local(question: str) -> Any:
    local.user = question
    return local.user


def thread_identity(question: str) -> Any:
    return threading.get_ident(), threading.current_thread().name


def running_loop(question: str) -> Any:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def own_loop(question: str) -> Any:
    return asyncio.new_event_loop().run_until_complete(asyncio.sleep(0))


def sleeps(question: str) -> Any:
    time.sleep(1)


def opens(question: str) -> Any:
    with open(question) as file:
        return file.read()


def path_reads(question: str) -> Any:
    return Path(question).read_text()


def path_exists(question: str) -> Any:
    return os.path.exists(question)


def connects(question: str) -> Any:
    return socket.create_connection((question, 80))


def runs(question: str) -> Any:
    return subprocess.run([question], check=True)


def sql(question: str) -> Any:
    return database.execute(question).fetchall()


def evaluates(question: str) -> Any:
    return eval(question)


def generates(question: str) -> Any:
    yield question


def uses_generator(question: str) -> Any:
    return list(generates(question))


@contextlib.contextmanager
def managed() -> Any:
    lock.acquire()
    yield
    lock.release()


def with_manager(question: str) -> Any:
    with managed():
        return question


def parameter_method(client: Any) -> Any:
    return client.get()


def frames(question: str) -> Any:
    return sys._getframe(1).f_locals


def imports_late(question: str) -> Any:
    import ftplib

    return ftplib.FTP(question)


def undefined(question: str) -> Any:
    return nowhere(question)  # noqa: F821


def escapes_data(question: str) -> Any:
    return question.__class__.__base__.__subclasses__()  # type: ignore[union-attr]


class Client:
    def __init__(self) -> None:
        self.queue: Any = queue.Queue()

    def fetch(self) -> Any:
        return self.queue.get()

    @property
    def reply(self) -> Any:
        return self.queue.get()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # pytest looks at what a module has
            raise AttributeError(name)
        return pool.get()

    def __eq__(self, other: object) -> bool:
        return bool(pool.get())

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return str(pool.get())

    def __iter__(self) -> Any:
        pool.get()
        return iter(())

    def __enter__(self) -> Any:
        return pool.get()

    def __exit__(self, *args: object) -> None: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "queue":
            pool.get()

    def __call__(self) -> Any:
        return pool.get()


client = Client()


class Described:
    class Field:
        def __get__(self, owner: Any, cls: Any) -> Any:
            return pool.get()

    field = Field()


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        pool.get()
        return super().__call__(*args)


class OfMeta(metaclass=Meta): ...


class Threaded(threading.Thread): ...


class Checked(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def looked_up(cls, value: str) -> str:
        return str(pool.get())


class ExtractChecked(dspy.Signature):
    """Extract."""

    text: str = dspy.InputField()
    found: list[Checked] = dspy.OutputField()


checking = dspy.Predict(ExtractChecked)
IN_THREAD = [
    *(queue_get, queue_in_helper, held_in_list, through_alias, through_attribute, through_global, through_getattr),
    *(through_callback, through_map, through_partial, through_closure, through_default, through_walrus, through_dict),
    *(through_comprehension, through_match, through_star, through_kwargs, through_loop, through_unpacking),
    *(through_type, through_contextvar, with_lock, with_condition, with_event, thread_local, thread_identity),
    *(running_loop, own_loop, sleeps, opens, path_reads, path_exists, connects, runs, sql, evaluates, generates),
    *(uses_generator, with_manager, frames, imports_late, undefined, escapes_data, queue.Queue().get),
    *(lambda q: client.fetch(), lambda q: client.reply, lambda q: client.other, lambda q: client == q),
    *(lambda q: f"{client}", lambda q: str(client), lambda q: list(client), lambda q: [*client]),
    *(lambda q: client(), lambda q: [each for each in client], lambda q: "{0}".format(client)),  # noqa: UP030, UP032
    *(lambda q: Client().fetch(), lambda q: Described().field, lambda q: OfMeta(), lambda q: Threaded().start()),
    *(
        lambda q: q in [client],
        lambda q: predict(question=client),
        lambda q: checking(text=q),
        lambda q: Checked(name=q),
    ),
    *(lambda q: print(client), lambda q: print(q, file=client), lambda q: json.dumps(q, default=queue_get)),
    *(lambda q: setattr(client, "x", q), lambda q: functools.reduce(queue_in_helper, q), lambda q: vars(client)),
    *(lambda q: max([client, client]), lambda q: {client: 1}, lambda q: input(), lambda q: __import__(q)),
    *(
        lambda q: os.popen(q),
        lambda q: globals()["pool"].get(),
        lambda q: predict.save(q),
        lambda q: re.sub(q, queue_get, q),
    ),
    *(lambda q: words.sub(lambda _: pool.get(), q), lambda q: collections.defaultdict(pool.get)[q]),
]


def set_attribute(question: str) -> Any:
    client.name = question


def uses_context(question: str) -> Any:
    with client as found:
        return found


@pytest.mark.parametrize(
    "program",
    [*IN_THREAD, set_attribute, uses_context],
    ids=named,
)
def test_whatever_is_not_known_runs_in_a_thread(program: Any) -> None:
    placement = placement_for(program, ("a b",))
    assert placement.engine == "thread"
    assert "looked through" not in placement.reason


def test_the_reason_names_what_where() -> None:
    placement = placement_for(queue_in_helper, ("?",))
    line = queue_get.__code__.co_firstlineno + 1
    assert placement.reason == f"queue.Queue.get may block at {__file__}:{line}"
    assert (placement.filename, placement.line) == (__file__, line)


@pytest.mark.parametrize("program", PROGRAMS, ids=named)
def test_programs_from_the_literature_run_on_the_loop(program: Any) -> None:
    placement = placement_for(program.module().forward, (), program.inputs)
    assert (placement.engine, placement.reason) == ("loop", "")


def test_what_has_left_the_loop_has_left_it_whatever_it_holds_and_however_it_is_called() -> None:
    class Computes(dspy.Module):
        def __init__(self, *held: Any) -> None:
            super().__init__()
            self.held = held

        def forward(self, question: str) -> Any:
            return question * 3

    where = placement_of(Computes(1))
    assert where.engine == "loop"
    assert placement_for(Computes("other").forward) is where
    with pytest.warns(BlockingWarning):
        where.leave_loop("computes for long", __file__, 1)
    assert placement_of(Computes(2.0, [])) is where
    assert placement_of(Computes) is where
    assert placement_for(functools.partial(Computes.forward, Computes())) is where


def test_functions_leave_the_loop_by_their_code() -> None:
    def decorated(function: Any) -> Any:
        return lambda question: function(question)

    where = placement_of(plain)
    assert placement_for(functools.partial(plain), ("a",)) is where
    assert placement_of(decorated(plain)) is not placement_of(decorated(everyday))
