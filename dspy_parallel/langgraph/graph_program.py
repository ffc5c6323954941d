"""What a graph means, as a program that the scout can run ahead of LangGraph.

LangGraph runs in steps, and a step ends with its slowest node. What runs here computes the same states without waiting
for the end of a step: nodes are called on the state that they will see, their updates are put through the channels'
reducers, and the next step's nodes are called on the result, in which values may be pending.

It must never say more than LangGraph does. What is not known here (what a node returns that cannot be read, say) is an
unknown value: who needs it is not called early, and who does not is.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph._internal._constants import CONF, CONFIG_KEY_RESUMING, PULL
from langgraph.channels.binop import BinaryOperatorAggregate
from langgraph.channels.last_value import LastValue, LastValueAfterFinish
from langgraph.channels.named_barrier_value import NamedBarrierValue, NamedBarrierValueAfterFinish
from langgraph.constants import END, START
from langgraph.pregel import Pregel
from langgraph.types import Command, Send, interrupt

from ..callables import is_coroutine_function
from ..overlap.interpreter import calls, effects, expressions
from ..overlap.interpreter.frame import Frame, reachable
from ..overlap.interpreter.intrinsics import INTRINSICS, Intrinsic
from ..overlap.runtime.fibers import Fiber
from ..overlap.runtime.snapshot import private_copy
from ..overlap.runtime.thunks import BailOut, Pending, ProgramPoint
from .node_facts import Branch, NodeFacts, View, facts_of_node, keys_of_input
from .state_views import MISSING, UNKNOWN, Commanded, Maybe, Sent, State, gone_to, items_of, seen, targets_of

__all__ = ["Following", "GraphProgram", "Progress"]

MAX_STEPS = 100
"""How many steps are followed at a time."""

_STATE = (LastValue, BinaryOperatorAggregate)
_JOINS = (NamedBarrierValue, NamedBarrierValueAfterFinish)
_DEFERRED = (LastValueAfterFinish, NamedBarrierValueAfterFinish)


def _send(_: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
    return Sent(*args, **kwargs)


def _command(_: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
    if args or not kwargs.keys() <= {"update", "goto"}:
        raise BailOut("a `Command` to another graph ends this one, or resumes it", is_end=True)
    return Commanded(kwargs.get("update"), kwargs.get("goto", ()))


def _interrupt(*_: Any) -> Any:
    raise BailOut("`interrupt()` ends the run", is_end=True)


INTRINSICS.update({Send: _send, Command: _command, interrupt: _interrupt})


@dataclass(frozen=True)
class _Position:
    """Where a graph stands before a step.

    Attributes:
        tasks: Those of the step, in LangGraph's order: nodes, with what they are sent if no edge led there.
        seen: The joins that have not been completed, each with a node that they have seen.
        deferred: The nodes that run when nothing else is left.
        steps: How many steps may be run from here.
    """

    tasks: tuple[tuple[str, Any], ...]
    seen: frozenset[tuple[str, str]] = frozenset()
    deferred: frozenset[str] = frozenset()
    steps: int = MAX_STEPS

    @property
    def names(self) -> set[str]:
        """Those of the nodes that run."""
        return {name for name, _ in self.tasks}


class GraphProgram:
    """One graph, as far as it is known.

    Args:
        nodes: The graph's nodes.
        channels: The graph's channels.
        before: Nodes before which the graph is interrupted.
        after: Nodes after which it is.
        outputs: The keys that it returns.
    """

    def __init__(
        self,
        nodes: Mapping[str, Any],
        channels: Mapping[str, Any],
        before: Iterable[str],
        after: Iterable[str],
        outputs: Iterable[str] = (),
    ) -> None:
        kinds = {name: type(channel) for name, channel in channels.items()}
        self.keys = [name for name, kind in kinds.items() if kind in _STATE]
        self.given = keys_of_input(nodes.get(START))
        self.outputs = [*outputs]
        self.before, self.behind = frozenset(before), frozenset(after)
        self.joins = {name: frozenset(channels[name].names) for name, kind in kinds.items() if kind in _JOINS}
        self.deferred = frozenset(name.rpartition(":")[2] for name, kind in kinds.items() if kind in _DEFERRED)
        self.reducers = {n: channels[n].operator for n, kind in kinds.items() if kind is BinaryOperatorAggregate}
        self.initial = {name: channels[name].get() for name in self.keys if channels[name].is_available()}
        self.nodes = {name: facts_of_node(name, node) for name, node in nodes.items()}
        for name, node in nodes.items():
            self.nodes[name].graph = _inner(node.bound)
        self.roots = [*self._roots()]
        self.may_ask = any(node.may_ask for node in self.nodes.values())
        """Whether a node or an edge may come to an LM call that the scout can make."""

    def _roots(self) -> Iterator[Any]:
        yield from self.reducers.values()
        for node in self.nodes.values():
            yield node.function
            yield from (branch.path for branch in node.branches or ())
            yield from node.graph.roots if node.graph is not None else ()

    @property
    def is_known(self) -> bool:
        """Whether its state is made of keys."""
        return "__root__" not in self.keys

    def follows(self, name: str) -> bool:
        """Whether a node can be followed."""
        node = self.nodes.get(name)
        return node is not None and (name == START or node.function is not None or node.graph is not None)

    def goes_on(self, loop: Any, name: str) -> bool:
        """Whether a node of a resumed run is a graph that may go on from a checkpoint of its own."""
        return bool(loop.config[CONF].get(CONFIG_KEY_RESUMING)) and self.nodes[name].graph is not None

    def place(self, loop: Any) -> tuple[State, _Position, list[Any]] | None:
        """Where LangGraph is before a step: the state, the position, and what the tasks are sent, in order."""
        # In the order in which their updates go through the reducers (LangGraph's `apply_writes()`).
        tasks, channels = sorted(loop.tasks.values(), key=lambda task: task.path[:2]), loop.channels
        if any(task.writes or task.name not in self.nodes for task in tasks):
            return None
        state = {key: channels[key].get() for key in self.keys if channels[key].is_available()}
        # What is available has led to a task of this step, and is used up by that.
        open_ones = [name for name, channel in channels.items() if _is_open(channel)]
        waiting = frozenset((name, each) for name in open_ones if name in self.joins for each in channels[name].seen)
        deferred = frozenset(name.rpartition(":")[2] for name in open_ones if _is_complete(channels[name]))
        given = [task.input if task.name == START or task.path[0] != PULL else MISSING for task in tasks]
        given = [UNKNOWN if self.goes_on(loop, task.name) else each for task, each in zip(tasks, given, strict=True)]
        position = _Position(
            tuple((task.name, MISSING) for task in tasks), waiting, deferred, loop.stop - loop.step + 1
        )
        return state, position, given

    def certain_after(self, position: _Position) -> _Position:
        """What runs after a step in any case."""
        names, waiting = set[str](), set(position.seen)
        for name in position.names:
            names.update(self.nodes[name].edges)
            waiting.update((join, name) for join in self.nodes[name].joins)
        for join, starts in self.joins.items():
            if starts <= {name for other, name in waiting if other == join}:
                names.add(join.rpartition(":")[2])
                waiting = {(other, name) for other, name in waiting if other != join}
        tasks = tuple((name, MISSING) for name in sorted(names - self.deferred))
        deferred = position.deferred | (names & self.deferred)
        return _Position(tasks, frozenset(waiting), deferred, position.steps)

    def with_targets(self, position: _Position, targets: Sequence[Any]) -> _Position:
        """The same, and what conditional edges and commands lead to."""
        sent = [(target.node, target.arg) for target in targets if isinstance(target, Sent)]
        led = {target for target in targets if not isinstance(target, Sent) and target != END}
        if not led | {name for name, _ in sent} <= self.nodes.keys():
            raise BailOut("a conditional edge leads to an unknown place")
        names, deferred = position.names | (led - self.deferred), {*position.deferred, *(led & self.deferred)}
        if deferred and sent and not names:
            raise BailOut("deferred nodes wait for what is sent")
        if not names and not sent:
            names, deferred = deferred, set()
        tasks = (*((name, MISSING) for name in sorted(names)), *sent)
        return replace(position, tasks=tasks, deferred=frozenset(deferred))


def _is_open(channel: Any) -> bool:
    """Whether a channel that leads to a node waits for others, or for the end."""
    return type(channel) in (*_JOINS, *_DEFERRED) and not channel.is_available()


def _is_complete(channel: Any) -> bool:
    """Whether it waits for the end alone."""
    if type(channel) is LastValueAfterFinish:
        return isinstance(channel.checkpoint(), tuple)
    return type(channel) is NamedBarrierValueAfterFinish and channel.seen == channel.names


def _inner(graph: Any) -> GraphProgram | None:
    """A graph that is a node; each run of it begins anew, unless it has a memory of its own."""
    if not isinstance(graph, Pregel) or graph.checkpointer or not isinstance(graph.output_channels, list):
        return None
    before, after = (
        tuple(graph.nodes) if each == "*" else each
        for each in (graph.interrupt_before_nodes, graph.interrupt_after_nodes)
    )
    found = GraphProgram(graph.nodes, graph.channels, before, after, graph.output_channels)
    return found if found.is_known and graph.input_channels == START else None


@dataclass
class Progress:
    """How far the scout has come.

    Attributes:
        step: The number of the step that it is at, from 0.
        is_stopped: Whether it goes no further, though the graph does.
        results: Values that only LangGraph may come to know, with the steps that make them known.
        tasks: What has been begun: step, node, and from where to where in program order.
    """

    step: int = 0
    is_stopped: bool = False
    results: list[tuple[int, Pending]] = field(default_factory=list[tuple[int, Pending]])
    tasks: list[tuple[int, str, ProgramPoint, ProgramPoint]] = field(default_factory=list[Any])

    def is_behind(self, step: int) -> bool:
        """Whether LangGraph, which is at that step, knows what the scout has had to stop for."""
        if self.is_stopped and self.step < step:
            return True
        return any(number < step and value.is_unknown and not value.done for number, value in self.results)

    def extent(self, step: int, name: str) -> tuple[list[tuple[ProgramPoint, ProgramPoint]], ProgramPoint]:
        """Where a node of a step begins and ends in program order, if it is there once; and where the step ends."""
        tasks = [(node, start, end) for number, node, start, end in self.tasks if number == step]
        own = [(start, end) for node, start, end in tasks if node == name]
        return own[: len(own) == 1], max((end for *_, end in tasks), default=())


class Following(Intrinsic):
    """One run of a graph from a position on: called with the state, and with what its tasks are sent.

    Args:
        graph: The graph.
        position: Where it begins.
        progress: How far it has come.
        is_inner: Whether the graph runs within a step of another.
    """

    def __init__(self, graph: GraphProgram, position: _Position, progress: Progress, *, is_inner: bool = False) -> None:
        self.roots = graph.roots
        self._graph = graph
        self._position = position
        self._progress = progress
        self._is_inner = is_inner

    def call(self, frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """The state in the end; until it cannot be said what comes next."""
        state, given = args
        tasks = tuple((name, arg) for (name, _), arg in zip(self._position.tasks, given, strict=True))
        try:
            return self._run(frame, state, replace(self._position, tasks=tasks))
        except BaseException:
            self._progress.is_stopped |= not self._is_inner
            raise

    def _run(self, frame: Frame, state: State, position: _Position) -> State:
        early: dict[str, Any] = {}
        for _ in range(min(position.steps, MAX_STEPS)):
            done = [
                (
                    node := self._graph.nodes[name],
                    early[name] if name in early and arg is MISSING else self._begin(frame, node, state, arg),
                )
                for name, arg in position.tasks
            ]
            after = state
            for node, update in done:
                after = self._put(frame, after, node, update)
            self._check_writes(update for _, update in done)
            if self._graph.behind & position.names:
                raise BailOut
            position = self._graph.certain_after(position)
            choices = [
                (branch, self._choice(frame, branch, node, state, update))
                for node, update in done
                for branch in _branches(node)
            ]
            early = {}
            if not self._graph.before & position.names and any(
                type(value) is Pending and not value.done for _, value in (*done, *choices)
            ):
                # They run whatever else does: who runs beside them has no part in what they see.
                early = {
                    name: self._begin(frame, self._graph.nodes[name], after, MISSING, 1) for name in position.names
                }
            led = [targets_of(frame, choice, branch.ends) for branch, choice in choices]
            led += [gone_to(frame, update) for node, update in done if node.may_command]
            position = self._graph.with_targets(position, [target for targets in led for target in targets])
            state = after
            if not position.tasks:
                return state
            if self._graph.before & position.names:
                break
            self._progress.step += not self._is_inner
        raise BailOut

    def _choice(self, frame: Frame, branch: Branch, node: NodeFacts, state: State, update: Any) -> Any:
        view = update
        if branch.view is not None:
            # The state with the node's own update, and not yet those of its siblings (BranchSpec._route).
            own = self._put(frame, state, node, update)
            view = self._seen(frame, own, branch.view, branch.reads, 0, update if branch.takes_update else MISSING)
        return self._isolated(frame, f"where `{node.name}` leads", branch.path, [view])

    def _begin(self, frame: Frame, node: NodeFacts, state: State, given: Any, step: int = 0) -> Any:
        """What a node returns."""
        start = frame.fiber.here
        try:
            return self._returned(frame, node, state, given, step)
        finally:
            if not self._is_inner:
                self._progress.tasks.append((self._progress.step + step, node.name, start, frame.fiber.here))

    def _returned(self, frame: Frame, node: NodeFacts, state: State, given: Any, step: int) -> Any:
        if node.name == START:
            given, keys = items_of(frame, frame.force(given)), self._graph.given
            return {key: value for key, value in given.items() if keys is None or key in keys}
        what = f"what `{node.name}` returns"
        if given is UNKNOWN or node.view is None or (node.function is None and node.graph is None):
            return self._unknown(frame, what, step)
        view = given if given is not MISSING else self._seen(frame, state, node.view, node.keys.reads, step)
        if node.graph is not None:
            inner = Progress(self._progress.step + step, results=self._progress.results)
            return self._isolated(frame, what, _Inner(node.graph, inner), [view], step=step)
        injected = {name: self._unknown(frame, f"`{name}`", step) for name in node.injected}
        return self._isolated(frame, what, node.function, [view], injected, step, isolated=node.keys.is_pure)

    def _seen(
        self, frame: Frame, state: State, view: View, reads: frozenset[str] | None, step: int, *update: Any
    ) -> Any:
        unknown = functools.partial(self._unknown, frame, step=step)
        return seen(frame, state, view, reads, self._graph.keys, unknown, *update)

    def _unknown(self, frame: Frame, what: str, step: int) -> Pending:
        value = frame.interpreter.unknown(what, is_plain=False)
        self._progress.results.append((self._progress.step + step, value))
        return value

    def _isolated(
        self,
        frame: Frame,
        what: str,
        function: Any,
        args: list[Any],
        kwargs: Mapping[str, Any] = {},
        step: int = 0,
        *,
        isolated: bool = True,
    ) -> Any:
        """Call something of which others see only the result: where it can't be followed, that is unknown."""

        def work(fiber: Fiber) -> Any:
            inner = frame.at(fiber)
            if is_coroutine_function(function):
                return calls.apply_awaited(inner, function, args, dict(kwargs))
            return inner.apply(function, args, dict(kwargs))

        found = effects.of_callee(frame, function)
        boxes = [] if found.barrier else reachable([*args, *kwargs.values()])
        reads, writes = ([], []) if found.barrier else (found.reads(frame, boxes), found.writes(frame, boxes))
        value = frame.fiber.fork(work, what, reads, writes, isolated=isolated)
        if type(value) is Pending:
            self._progress.results.append((self._progress.step + step, value))
        return value

    # Updates

    def _check_writes(self, updates: Iterable[Any]) -> None:
        """The run ends where two nodes of a step write the same key that has no reducer."""
        known = [update for update in updates if type(update) is dict]
        keys = [
            key for update in known for key in update if key in self._graph.keys and key not in self._graph.reducers
        ]
        if len(keys) > len({*keys}):
            raise BailOut("a key is written twice in a step", is_end=True)

    def _put(self, frame: Frame, state: State, node: NodeFacts, update: Any) -> State:
        """The state after an update, as `StateGraph.attach_node()` and the channels make it."""
        new = dict(state)
        if type(update) is not Pending or update.done:
            for key, value in items_of(frame, frame.force(update)).items():
                if key in self._graph.keys:
                    new[key] = self._reduced(frame, key, new.get(key, MISSING), value)
            return new
        for key in self._graph.keys:
            if node.keys.may is None or key in node.keys.may:
                new[key] = self._put_later(frame, key, new.get(key, MISSING), node, update)
        return new

    def _put_later(self, frame: Frame, key: str, before: Any, node: NodeFacts, update: Pending) -> Any:
        def work(fiber: Fiber) -> Any:
            inner = frame.at(fiber)
            old = fiber.force(before.value) if isinstance(before, Maybe) else before
            value = items_of(inner, fiber.force(update)).get(key, MISSING)
            return old if value is MISSING else self._reduced(inner, key, old, value)

        found = frame.fiber.fork(work, f"`{key}`", reachable([before, update]))
        is_certain = key in node.keys.must or not (before is MISSING or isinstance(before, Maybe))
        return found if is_certain or type(found) is not Pending else Maybe(found)

    def _reduced(self, frame: Frame, key: str, before: Any, value: Any) -> Any:
        reducer = self._graph.reducers.get(key)
        if isinstance(before, Maybe):
            before = frame.force(before.value)
        known = frame.force(value) if type(value) is Pending and value.done else value
        is_marked = type(known) is dict and "__overwrite__" in (*known, known.get("type"))
        if type(known).__name__ == "Overwrite" or is_marked:
            raise BailOut("a reducer is passed over")
        if reducer is None or before is MISSING:
            return value
        if reducer is operator.add:
            return expressions.binary(frame, operator.add, before, value)
        # It runs between LangGraph's tasks, which alone are main lines: nobody would take the reply.
        unasking = frame.without_calls("a reducer asks by itself")
        return self._isolated(unasking, f"`{key}`", reducer, [before, value])


class _Inner(Intrinsic):
    """A graph that is a node: called with what its tasks would be sent, it returns what the graph does."""

    def __init__(self, graph: GraphProgram, progress: Progress) -> None:
        self._graph = graph
        self._run = Following(graph, _Position(((START, MISSING),)), progress, is_inner=True)

    def call(self, frame: Frame, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Its output, as far as it can be foretold."""
        state = self._run.call(frame, [private_copy(self._graph.initial), args], {})
        if not {*self._graph.outputs} <= {*self._graph.keys}:
            raise BailOut("a graph returns what only LangGraph knows")
        return {key: state[key] for key in self._graph.outputs if key in state}


def _branches(node: NodeFacts) -> list[Branch]:
    if node.branches is None:
        raise BailOut(f"what decides what runs after `{node.name}` is not known")
    return node.branches
