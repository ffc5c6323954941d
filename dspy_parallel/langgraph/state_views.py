"""The state as the scout has it, with values that are not there yet, and what code of the user's sees of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pydantic

from ..analysis import effect_free
from ..analysis.trusted_types import is_limit
from ..overlap.interpreter.frame import Frame, blockers, raising, reachable
from ..overlap.runtime.fibers import Fiber
from ..overlap.runtime.thunks import BailOut, Pending
from .node_facts import View

__all__ = ["MISSING", "UNKNOWN", "Commanded", "Maybe", "Sent", "State", "gone_to", "items_of", "seen", "targets_of"]

MISSING: Any = object()
"""Stands for the value of a key that is not there."""
UNKNOWN: Any = object()
"""Stands for what a task is given that only LangGraph can run."""

State = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Maybe:
    """The value of a key that may turn out not to be there."""

    value: Pending


@dataclass(frozen=True, eq=False)
class Sent:
    """What the scout makes in place of a `Send`."""

    node: Any
    arg: Any


@dataclass(frozen=True, eq=False)
class Commanded:
    """What the scout makes in place of a `Command`."""

    update: Any
    goto: Any


def items_of(frame: Frame, update: Any) -> dict[str, Any]:
    """The items of an update that is there."""
    if isinstance(update, Commanded):
        update = frame.force(update.update)
    if update is None:
        return {}
    if type(update) is not dict:
        raise BailOut(f"an update that is a {type(update).__qualname__}")
    frame.fiber.touch(update)
    return update


def seen(
    frame: Frame,
    state: State,
    view: View,
    reads: frozenset[str] | None,
    known: Sequence[str],
    unknown: Callable[[str], Pending],
    update: Any = MISSING,
) -> Any:
    """What is seen of a state by a function that looks at these keys; and of an update, if it is shown that as well.

    What other channels than the known ones hold, and managed values (the steps that remain), only LangGraph can tell.
    """
    if view.schema is not None and reads is not None and not reads <= {*view.keys}:
        reads = None  # methods and properties read others
    keys = [key for key in view.keys if reads is None or key in reads]
    values = {key: state[key] for key in keys if key in state}
    values.update((key, Maybe(unknown(f"`{key}`"))) for key in keys if key not in known)
    if update is not MISSING and (reads is None or not reads <= {*view.keys}):
        values = {**items_of(frame, frame.force(update)), **values}

    def make(fiber: Fiber) -> Any:
        known = {key: fiber.force(each.value) if isinstance(each, Maybe) else each for key, each in values.items()}
        there = {key: each for key, each in known.items() if each is not MISSING}
        return there if view.schema is None else _instance(frame.at(fiber), view.schema, there)

    if not any(isinstance(value, Maybe) for value in values.values()):
        return make(frame.fiber)
    return frame.fiber.fork(make, "the state", reachable(values.values()))


def _instance(frame: Frame, schema: Any, values: dict[str, Any]) -> Any:
    """What LangGraph makes of a state: here, values may be pending, and those that nobody reads may lack."""
    if not issubclass(schema, pydantic.BaseModel) or not _has_plain_fields(schema):
        return frame.apply(schema, [], values)
    if schema.model_config.get("frozen") or any(field.frozen for field in schema.model_fields.values()):
        values = {key: frame.ready(value) for key, value in values.items()}  # no field can be checked by itself
    own = frame.interpreter.snapshot.own
    if not any(blockers(frame.fiber, value) for value in values.values()):
        return own(raising(schema, **values))

    def checked(key: str, fiber: Fiber) -> Any:
        known, one = frame.at(fiber).ready(values[key]), schema.model_construct()
        raising(schema.__pydantic_validator__.validate_assignment, one, key, known)  # "7" becomes 7, as in the model
        return own(vars(one)[key])

    fork = frame.fiber.fork
    found = {k: fork(functools.partial(checked, k), f"`{k}`", reachable([v])) for k, v in values.items()}
    return own(schema.model_construct(**found))


def _has_plain_fields(schema: Any) -> bool:
    """Whether making a model runs no code of the user's. Reducers, which stand beside its types, are not its own."""
    decorators, fields = schema.__pydantic_decorators__, schema.model_fields.values()
    has_own = decorators.validators or decorators.field_validators or decorators.model_validators
    is_usual = schema.__init__ is pydantic.BaseModel.__init__
    is_usual = is_usual and schema.model_post_init is pydantic.BaseModel.model_post_init
    beside = [each for field in fields for each in field.metadata if not (callable(each) or isinstance(each, str))]
    return is_usual and not has_own and all(map(is_limit, beside)) and all(map(effect_free.is_pure_field, fields))


def targets_of(frame: Frame, chosen: Any, ends: Mapping[Any, str] | None) -> list[Any]:
    """Nodes, or what is sent to them, that a path function or a `Command` has named."""
    chosen = frame.force(chosen)
    found: list[Any] = []
    for each in [frame.force(one) for one in chosen] if type(chosen) in (list, tuple) else [chosen]:
        if isinstance(each, Sent):
            found.append(Sent(frame.force(each.node), each.arg))
        elif type(each) not in (str, int, bool) or (ends and each not in ends):
            raise BailOut("a conditional edge leads to an unknown place")
        else:
            found.append(ends[each] if ends else each)
    return found


def gone_to(frame: Frame, update: Any) -> list[Any]:
    """The same for what a node returns."""
    known = frame.force(update)
    return targets_of(frame, known.goto, None) if isinstance(known, Commanded) else []
