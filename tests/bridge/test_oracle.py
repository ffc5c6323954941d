"""Plain async code is the oracle: random programs do the same in the bridge, event by event.

A program is a tree of statements. It is run twice: by a coroutine function, and by a sync function that waits with
`await_()`. On the loop engine the order of events must be the same even between concurrent programs; on the
thread engine, within each of them.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspy_parallel.bridge import await_, start_pace
from tests.bridge.programs import run
from tests.support.loops import LOOP_KINDS, run_on

VARS = [contextvars.ContextVar(f"oracle_{n}") for n in range(2)]
ERRORS: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "KeyError": KeyError,
    "OSError": OSError,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BaseException,
}
CAUGHT = {**ERRORS, "Exception": Exception}

numbers = st.integers(0, 3)
leaves = st.one_of(
    st.tuples(st.just("sleep")),
    st.tuples(st.just("await"), numbers),
    st.tuples(st.just("await fails"), st.sampled_from(sorted(ERRORS)), numbers),
    st.tuples(st.just("raise"), st.sampled_from(sorted(ERRORS)), numbers),
    st.tuples(st.just("set"), st.integers(0, 1), numbers),
    st.tuples(st.just("reset")),
    st.tuples(st.just("coroutine sets"), st.integers(0, 1), numbers),
    st.tuples(st.just("coroutine resets")),
    st.tuples(st.just("cancel self")),
    st.tuples(st.just("cancel other"), numbers),
)


def _compound(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = st.lists(inner, max_size=4)
    return st.one_of(
        st.tuples(st.just("try"), body, st.sampled_from(sorted(CAUGHT)), body, body),
        st.tuples(st.just("run"), st.sampled_from(["loop", "thread", "unpinned", "same"]), body),
        st.tuples(st.just("in coroutine"), body),
        st.tuples(st.just("gather"), st.lists(body, min_size=1, max_size=3)),
    )


programs = st.lists(st.recursive(leaves, _compound, max_leaves=12), max_size=5)


@pytest.fixture(autouse=True)
def all_begin_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: when the next turn begins is the machine's matter."""
    monkeypatch.setattr(start_pace, "SECONDS_PER_TURN", 1e6)


@dataclass
class World:
    """What the programs of one run share and leave."""

    engine: str
    events: list[Any] = field(default_factory=list)
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)
    cancels_others: bool = True

    def note(self, path: Any, *event: Any) -> None:
        self.events.append((path, *event, [variable.get("unset") for variable in VARS]))

    def run(self, path: Any, body: list[Any], engine: Any) -> Coroutine[Any, Any, Any]:
        return plain(self, path, body) if self.engine == "plain" else run(bridged, self, path, body, engine=engine)

    async def in_coroutine(self, path: Any, body: list[Any]) -> Any:
        return await plain(self, path, body) if self.engine == "plain" else bridged(self, path, body)

    def cancel(self, number: int) -> None:
        if self.cancels_others and self.tasks:
            self.tasks[number % len(self.tasks)].cancel(f"by {number}")


async def _echo(world: World, path: Any, value: Any) -> Any:
    world.note(path, "before sleep", value)
    await asyncio.sleep(0)
    world.note(path, "after sleep", value)
    return value


async def _fail(kind: str, value: Any) -> Any:
    await asyncio.sleep(0)
    raise ERRORS[kind](value)


async def _set(variable: int, value: Any) -> Any:
    await asyncio.sleep(0)
    return VARS[variable], VARS[variable].set(value)


async def _reset(tokens: list[Any]) -> None:
    await asyncio.sleep(0)
    variable, token = tokens.pop()
    variable.reset(token)


async def _gather(runs: list[Any]) -> Any:
    return await asyncio.gather(*runs, return_exceptions=True)


async def _cancel_self() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel("by itself")
    await asyncio.sleep(0)


async def _cancel_other(world: World, number: int) -> None:
    world.cancel(number)
    await asyncio.sleep(0)


def _told(outcome: Any) -> Any:
    if isinstance(outcome, BaseException):
        return type(outcome).__name__, outcome.args
    return outcome


def interpreted(world: World, path: Any, body: list[Any]) -> Generator[Any, Any, Any]:
    """The program, which yields what it waits for."""
    tokens: list[Any] = []
    for n, (kind, *arguments) in enumerate(body):
        here = (path, n)
        world.note(here, kind)
        if kind == "sleep":
            yield asyncio.sleep(0)
        elif kind == "await":
            world.note(here, (yield _echo(world, here, arguments[0])))
        elif kind == "await fails":
            yield _fail(*arguments)
        elif kind == "raise":
            raise ERRORS[arguments[0]](arguments[1])
        elif kind == "set":
            variable = VARS[arguments[0]]
            tokens.append((variable, variable.set(arguments[1])))
        elif kind == "reset" and tokens:
            variable, token = tokens.pop()
            variable.reset(token)
        elif kind == "coroutine sets":
            tokens.append((yield _set(*arguments)))
        elif kind == "coroutine resets" and tokens:
            yield _reset(tokens)
        elif kind == "cancel self":
            yield _cancel_self()
        elif kind == "cancel other":
            yield _cancel_other(world, arguments[0])
        elif kind == "try":
            tried, caught, handler, final = arguments
            try:
                yield from interpreted(world, (here, "try"), tried)
            except CAUGHT[caught] as exc:
                world.note(here, "caught", _told(exc))
                yield from interpreted(world, (here, "except"), handler)
            finally:
                yield from interpreted(world, (here, "finally"), final)
        elif kind == "run":
            engine = world.engine if world.engine == "loop" or arguments[0] == "same" else arguments[0]
            world.note(here, (yield world.run(here, arguments[1], engine)))
        elif kind == "in coroutine":
            world.note(here, (yield world.in_coroutine(here, arguments[0])))
        elif kind == "gather":
            runs = [world.run((here, m), inner, world.engine) for m, inner in enumerate(arguments[0])]
            world.note(here, [_told(outcome) for outcome in (yield _gather(runs))])
    return path


async def plain(world: World, path: Any, body: list[Any]) -> Any:
    """The program as a coroutine."""
    steps = interpreted(world, path, body)
    step: Any = steps.send, None
    while True:
        try:
            awaitable = step[0](step[1])
        except StopIteration as stop:
            return stop.value
        try:
            step = steps.send, await awaitable
        except BaseException as exc:
            step = steps.throw, exc


def bridged(world: World, path: Any, body: list[Any]) -> Any:
    """The same as a sync function."""
    steps = interpreted(world, path, body)
    step: Any = steps.send, None
    while True:
        try:
            awaitable = step[0](step[1])
        except StopIteration as stop:
            return stop.value
        try:
            step = steps.send, await_(awaitable)
        except BaseException as exc:
            step = steps.throw, exc


async def _all(world: World, bodies: list[Any]) -> list[Any]:
    loop = asyncio.get_running_loop()
    for n, body in enumerate(bodies):
        # The first step of an eager task would run before its siblings are known; let them all be made first.
        world.tasks.append(loop.create_task(_one(world, n, body)))
    outcomes = await asyncio.gather(*world.tasks, return_exceptions=True)
    return [_told(outcome) for outcome in outcomes]


async def _one(world: World, n: int, body: list[Any]) -> Any:
    await asyncio.sleep(0)
    try:
        return await world.run(n, body, world.engine)
    finally:
        world.note(n, "end")


def _by_program(events: list[Any]) -> dict[Any, list[Any]]:
    """The events of each branch in their order; concurrent branches of a gather are told apart by their paths."""
    told: dict[Any, list[Any]] = {}
    for path, *event in events:
        told.setdefault(_branch(path), []).append((path, *event))
    return told


def _branch(path: Any) -> Any:
    return path if not isinstance(path, tuple) else _branch(path[0])


def _has_gather(body: Any) -> bool:
    return any(item == "gather" or (isinstance(item, list | tuple) and _has_gather(item)) for item in body)


SHIELDED = [
    ("try", [("await", 1)], "CancelledError", [("sleep",)], [("await", 2)]),
    ("set", 0, 1),
    ("coroutine resets",),
    ("await", 3),
]


@pytest.mark.parametrize("kind", LOOP_KINDS)
@pytest.mark.parametrize("engine", ["loop", "thread"])
@given(bodies=st.lists(programs, min_size=1, max_size=3))
@example(bodies=[SHIELDED, [("sleep",), ("cancel other", 0), ("await", 1)]])
@example(bodies=[[("try", [("cancel self",)], "CancelledError", [("await fails", "KeyError", 1)], [("sleep",)])]])
def test_the_bridge_does_what_plain_code_does(kind, engine, bodies):
    # A cancel from elsewhere arrives in a thread whenever it does: only the loop has an order to compare.
    expected = World("plain", cancels_others=engine == "loop")
    got = World(engine, cancels_others=engine == "loop")
    outcome = run_on(kind, _all, expected, bodies)
    assert run_on(kind, _all, got, bodies) == outcome
    if engine == "loop":
        assert got.events == expected.events
    elif not _has_gather(bodies):
        assert _by_program(got.events) == _by_program(expected.events)
    else:
        assert sorted(map(repr, got.events)) == sorted(map(repr, expected.events))
