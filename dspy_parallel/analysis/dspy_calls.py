"""What happens when DSPy's own objects are called: whose code they run, and on which thread.

DSPy's own code neither blocks nor depends on its thread where it waits through a seam. What it is given may: tools,
metrics, callbacks, adapters, LMs, and types of output fields with validators.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import dspy
from dspy.dsp.utils.settings import main_thread_config, thread_local_overrides
from dspy.utils.callback import BaseCallback

from ..seams.async_counterparts import is_counterpart
from ..seams.table import seam_of
from .abstract_values import DATA, NOTHING, ONLY_DATA, UNKNOWN, Bound, Closure, Instance, Partial, Value
from .harmless_calls import is_a
from .held_values import Held, attributes_of
from .places import package_of
from .reach import Arguments, Frame, Reach, has_call
from .signature_types import use_signature, use_text
from .trusted_types import is_code_of, is_known, once, unpatched

__all__ = [
    "CONTEXT",
    "OBJECTS",
    "call_function",
    "call_object",
    "call_seam",
    "construct",
    "current_setting",
    "is_seam",
    "is_settings",
    "note_assignment",
    "setting",
]

OBJECTS = (
    *(dspy.Module, dspy.BaseLM, dspy.Adapter, dspy.Tool, dspy.Embedder, BaseCallback, dspy.KNN, dspy.Parallel),
    *(dspy.Retrieve,),
)
"""Classes of objects that DSPy's code calls."""

CONTEXT = type(dspy.settings).context
"""`dspy.context`, which contextlib has put something around."""

_KNOWN_MODULES = frozenset(
    [
        *("Predict", "ChainOfThought", "ReAct", "ReActV2", "BestOfN", "Refine", "MultiChainComparison", "Retrieve"),
        *("KNN", "Parallel", "Ensemble", "EnsembledProgram", "OfferFeedback", "ProgramOfThought", "CodeAct"),
        *("Embeddings", "SemanticF1", "CompleteAndGrounded"),
    ]
)
_READERS = frozenset(
    [
        *("predictors", "named_predictors", "parameters", "named_parameters", "named_sub_modules", "get_lm", "set_lm"),
        *("deepcopy", "reset_copy", "copy", "reset", "map_named_predictors", "inspect_history", "dump_state"),
        *("named_parameters", "load_state", "batch", "get", "items", "keys", "values"),
    ]
)
_FUNCTIONS = frozenset(
    [
        *("majority", "ensure_signature", "make_signature", "context", "normalize_text", "answer_exact_match"),
        *("answer_passage_match", "EM", "F1", "HotPotF1", "normalize_text", "infer_prefix", "track_usage"),
        *("format_error_for_lm", "default_normalize"),
    ]
)
_OURS = frozenset(["await_", "loop_safe", "pure", "ordered", "placement_of", "offload"])
_NOT_FOLLOWED = frozenset(["save", "load", "forward", "aforward", "launch", "kill", "finetune", "infer_provider"])
_READ_FILES = frozenset(["from_file", "from_path", "from_url", "from_array", "from_PIL"])
_OWN_ATTRIBUTES = frozenset(["history", "demos", "traces", "train", "stage", "config", "fields"])
"""Attributes of modules that are data, or never called."""


def is_settings(value: Any) -> bool:
    """Whether it is `dspy.settings`."""
    return value is dspy.settings


def is_seam(function: Any) -> bool:
    """Whether a call of it waits without blocking the loop."""
    return seam_of(function) is not None


def current_setting(name: str) -> Any:
    """A setting as the code sees it that is run from here."""
    overrides = thread_local_overrides.get()
    return dict.get(overrides, name, None) if name in overrides else dict.get(main_thread_config, name)


def setting(reach: Reach, name: str) -> Value:
    """What a setting may be."""
    value = current_setting(name)
    method = getattr(type(dspy.settings), name, None)
    if isinstance(method, types.FunctionType):
        return frozenset([Bound(reach.holdings.constant(method), reach.holdings.constant(dspy.settings), None)])
    if name not in reach.settings:
        reach.settings[name] = reach.holdings.hold(value)
    return reach.value_of(value, reach.settings[name]) | reach.stores.get(("setting", name), set())


# Calls


def call_object(reach: Reach, frame: Frame, atom: Any, cls: type, arguments: Arguments, node: Any) -> Value | None:
    """What calling an LM, a module, an adapter or a tool may return; None if that is like any other object."""
    _watch(reach, frame, cls, node)
    if issubclass(cls, dspy.BaseLM):
        return use_lm(reach, frame, frozenset([atom]), node)
    if issubclass(cls, dspy.Adapter):
        use_lm(reach, frame, arguments.all, node)
        return use_adapter(reach, frame, frozenset([atom]), node)
    if issubclass(cls, dspy.Tool):
        return _use_tool(reach, frame, atom, arguments, node)
    if issubclass(cls, dspy.Embedder):
        model = reach.part_of(atom, "model") if isinstance(atom, Held) else reach.stores.get((cls, "*init"))
        return ONLY_DATA | reach.call(frame, frozenset(model or ()), Arguments([ONLY_DATA]), node, "a model")
    base, _ = reach.holdings.of_class(cls, "__call__")
    if base is None or not is_known(base):
        return None
    if issubclass(cls, dspy.Parallel):
        return _use_parts(reach, frame, arguments.all, node)
    use_callbacks(reach, frame, atom, node)
    own = reach.part_of(atom, "forward") if isinstance(atom, Held) else None
    if own is not None:
        return reach.call(frame, own, arguments, node, "forward")
    definer, forward = reach.holdings.of_class(cls, "forward")
    if definer is None and issubclass(cls, dspy.Module):
        return NOTHING
    if definer is None or is_known(definer):
        return use(reach, frame, atom, arguments, node)
    if not is_a(forward, types.FunctionType):
        return reach.need(frame, node, "unread", f"{cls.__qualname__}.forward is not known")
    method = Bound(reach.holdings.constant(forward), atom, definer)
    return reach.call(frame, frozenset([method]), arguments, node, "forward")


def use(reach: Reach, frame: Frame, atom: Any, arguments: Arguments, node: Any) -> Value:
    """One of DSPy's own modules runs: it may call all that it holds, and all that it is given."""
    cls: type = atom.cls
    known = next((base for base in cls.__mro__ if base.__name__ in _KNOWN_MODULES and is_known(base)), None)
    if known is None:
        return reach.need(frame, node, "unread", f"{cls.__module__}.{cls.__qualname__} is not known")
    for name in ("lm", "adapter"):
        use_setting(reach, frame, name, node)
    for each in (given := arguments.all):
        if each is UNKNOWN or (isinstance(each, (Held, Instance)) and not _is_called_by_dspy(each)):
            _print(reach, frame, each, node)
            given -= {each}
    use_lm(reach, frame, arguments.keywords.get("lm", NOTHING), node)
    if isinstance(atom, Instance):
        found = frozenset(reach.stores.get((cls, "*init"), ())) | ONLY_DATA
        found |= _use_parts(reach, frame, found, node)
        return found
    found = ONLY_DATA
    for name in list(attributes_of(atom.value)):
        if name not in _OWN_ATTRIBUTES and name != "callbacks":
            part = reach.part_of(atom, name) or NOTHING
            found |= _use_parts(reach, frame, part | reach.stores.get((cls, name), set()), node)
    if known.__name__ == "Retrieve":
        found |= reach.call(frame, setting(reach, "rm"), Arguments([ONLY_DATA]), node, "dspy.settings.rm")
    if known.__name__ in ("ProgramOfThought", "CodeAct"):
        use_setting(reach, frame, "interpreter_factory", node)
    return found | _use_parts(reach, frame, given, node)


def _is_called_by_dspy(atom: Any) -> bool:
    return callable(atom.value) if isinstance(atom, Held) else has_call(atom.cls)


def _print(reach: Reach, frame: Frame, atom: Any, node: Any) -> None:
    """A value becomes part of a prompt."""
    if atom is not UNKNOWN and issubclass(atom.cls, dspy.Type):
        reach.use_type(frame, atom.cls, node)
    reach.call(frame, reach.constant(str), Arguments([frozenset([atom])]), node, "str")


def _use_parts(reach: Reach, frame: Frame, value: Value, node: Any) -> Value:
    """What a module holds may be called."""
    found = NOTHING
    arguments = Arguments([], {}, reach.anything)
    for atom in value:
        if atom is DATA:
            continue
        if atom is UNKNOWN:
            reach.need(frame, node, "unread", "something that a module holds")
        elif isinstance(atom, (Closure, Bound, Partial)):
            found |= reach.call(frame, frozenset([atom]), arguments, node, "an argument")
        elif is_a(getattr(atom, "value", None), type) and issubclass(atom.value, dspy.Signature):
            found |= use_signature(reach, frame, atom, node)
        elif isinstance(atom, Held) and is_a(atom.value, type):
            found |= reach.use_type(frame, atom.value, node)
        elif isinstance(atom, Held) and type(atom.value).__name__ in ("PythonInterpreter", "ndarray"):
            continue
        elif issubclass(atom.cls, dspy.BaseLM):
            found |= use_lm(reach, frame, frozenset([atom]), node)
        elif issubclass(atom.cls, dspy.Adapter):
            found |= use_adapter(reach, frame, frozenset([atom]), node)
        elif isinstance(atom, Instance) or callable(atom.value):
            if not isinstance(atom, Instance) or has_call(atom.cls):
                found |= reach.call(frame, frozenset([atom]), arguments, node, "an argument")
        elif not is_known(atom.cls):
            reach.need(frame, node, "unread", f"what a module does with its {atom.cls.__qualname__}")
    return found


def use_setting(reach: Reach, frame: Frame, name: str, node: Any) -> None:
    """DSPy uses the LM, or the adapter, that is set."""
    value = setting(reach, name)
    if name == "lm":
        use_lm(reach, frame, value, node)
    elif name == "adapter":
        for cls in (dspy.ChatAdapter, dspy.JSONAdapter, dspy.Prediction):  # the default, and what it falls back to
            _watch(reach, frame, cls, node)
        use_adapter(reach, frame, value, node)
    else:
        _use_parts(reach, frame, value, node)


@once
def _has_counterpart(cls: type) -> bool:
    return is_counterpart(cls, "__call__", "acall") and is_counterpart(cls, "forward", "aforward")


def use_lm(reach: Reach, frame: Frame, value: Value, node: Any) -> Value:
    """An LM is called: awaited on the loop, if it can be."""
    for atom in value:
        if atom is DATA:
            continue
        if atom is UNKNOWN:
            reach.need(frame, node, "unread", "the LM is not known")
        elif isinstance(atom, Held) and is_a(atom.value, dspy.BaseLM):
            use_callbacks(reach, frame, atom, node)
            own = [name for name in ("forward", "__call__") if reach.part_of(atom, name) is not None]
            custom_engine = not isinstance(attributes_of(atom.value).get("_engine_spec", ""), str)
            is_awaited = not own and not custom_engine and _has_counterpart(atom.cls)
            if not is_awaited and atom.cls.__module__ != "dspy.utils.dummies":
                what = f"the LM class {atom.cls.__qualname__} has no async counterpart, and"
                reach.need(frame, node, "unread", f"{what} is not known")
            for name in ("__call__", "acall", "forward", "aforward"):
                reach.holdings.of_class(atom.cls, name)
        elif isinstance(atom, Instance) and issubclass(atom.cls, dspy.BaseLM) and not _has_counterpart(atom.cls):
            reach.need(frame, node, "unread", f"the LM class {atom.cls.__qualname__} is not known")
    return ONLY_DATA


def use_adapter(reach: Reach, frame: Frame, value: Value, node: Any) -> Value:
    """An adapter writes prompts and reads replies."""
    for atom in value:
        if not isinstance(atom, (Held, Instance)):
            if atom is UNKNOWN:
                reach.need(frame, node, "unread", "the adapter is not known")
            continue
        use_callbacks(reach, frame, atom, node)
        _watch(reach, frame, atom.cls, node)
        _use_methods(reach, frame, atom, node, lambda name: not name.startswith("__") or name == "__call__")
        if isinstance(atom, Held):
            for name in attributes_of(atom.value):
                if name != "callbacks":
                    _use_parts(reach, frame, reach.part_of(atom, name) or NOTHING, node)
    return ONLY_DATA


def use_callbacks(reach: Reach, frame: Frame, atom: Any, node: Any) -> None:
    """Callbacks run in the program."""
    found = setting(reach, "callbacks")
    if isinstance(atom, Held):
        found |= reach.part_of(atom, "callbacks") or NOTHING
    found |= reach.stores.get((atom.cls, "callbacks"), set())
    for each in found:
        if isinstance(each, (Held, Instance)):
            _use_methods(reach, frame, each, node, lambda name: name.startswith("on_"))
        elif each is UNKNOWN:
            reach.need(frame, node, "unread", "a callback is not known")


_WATCHED = frozenset(["__call__", "__getattr__", "__getitem__", "_forward_preprocess", "_forward_postprocess"])


def _watch(reach: Reach, frame: Frame, cls: type, node: Any) -> None:
    """Methods of DSPy's classes are known as they were written; whoever replaces one later is noticed, too."""
    for base in cls.__mro__:
        if not is_known(base) or package_of(base) != "dspy" or not reach.once(("watched", base)):
            continue
        for name, value in list(vars(base).items()):
            is_watched = not name.startswith("_") or name in _WATCHED
            function = unpatched(value.__func__ if is_a(value, (classmethod, staticmethod)) else value)
            if is_watched and callable(function):
                reach.holdings.of_class(base, name)
                if is_a(function, type) or is_code_of(function, "dspy", "dspy_parallel", "contextlib", "functools"):
                    continue
                what = f"{base.__module__}.{base.__qualname__}.{name}, which somebody has replaced,"
                reach.need(frame, node, "unread", f"{what} is not known")


def _use_methods(reach: Reach, frame: Frame, atom: Any, node: Any, wanted: Callable[[str], bool]) -> None:
    """DSPy calls methods of an object, of which those that are not its own are looked at."""
    if not reach.once(("methods", atom)):
        return
    for base in atom.cls.__mro__:
        if is_known(base) or package_of(base) == "dspy_parallel":
            continue
        for name, function in vars(base).items():
            if is_a(function, types.FunctionType) and wanted(name):
                reach.holdings.of_class(atom.cls, name)
                method = Bound(reach.holdings.constant(function), atom, base)
                given = Arguments([], {}, reach.anything | {UNKNOWN})
                reach.call(frame, frozenset([method]), given, node, name)


def _use_tool(reach: Reach, frame: Frame, atom: Any, arguments: Arguments, node: Any) -> Value:
    """A tool's function; an async one is awaited on the loop in any case."""
    use_callbacks(reach, frame, atom, node)
    if isinstance(atom, Instance):
        return reach.call(frame, frozenset(reach.stores.get((atom.cls, "*init"), ())), arguments, node, "a tool")
    function = reach.part_of(atom, "func") or NOTHING
    given = Arguments([], {}, reach.anything | arguments.all)
    return ONLY_DATA | reach.call(frame, function, given, node, "a tool")


# DSPy's functions


def call_seam(
    reach: Reach, frame: Frame, function: Any, definer: type | None, arguments: Arguments, node: Any
) -> Value:
    """A function that the table of seams covers."""
    if definer is not None and issubclass(definer, (*OBJECTS,)) and arguments.positional:
        return call_function(reach, frame, function, definer, arguments, node)
    reach.call(frame, reach.constant(str), Arguments([], {}, arguments.all), node, "str")
    return ONLY_DATA | arguments.all


def call_function(
    reach: Reach, frame: Frame, function: Any, definer: type | None, arguments: Arguments, node: Any
) -> Value:
    """A function, or a method, of DSPy or of this package."""
    name, module = function.__name__, function.__module__
    everything = arguments.all
    if module.partition(".")[0] == "dspy_parallel":
        if name in _OURS:
            return ONLY_DATA | everything | ({UNKNOWN} if name == "await_" else NOTHING)
        return reach.need(frame, node, "unread", f"{module}.{function.__qualname__} is not known")
    if definer is None:
        if function is CONTEXT:
            return _of_settings(reach, frame, "context", arguments, node)
        if name in _FUNCTIONS:
            return ONLY_DATA | everything
        if function.__qualname__.startswith("Settings."):
            return _of_settings(reach, frame, name, arguments, node)
        return reach.need(frame, node, "unread", f"{module}.{function.__qualname__} is not known")
    if definer is type(dspy.settings):
        return _of_settings(reach, frame, name, arguments, node)
    if name in _READ_FILES and issubclass(definer, dspy.Type):
        return reach.need(frame, node, "blocks", f"{definer.__module__}.{definer.__qualname__}.{name} may block")
    owners = arguments.positional[0] if arguments.positional else NOTHING
    inner = Arguments(arguments.positional[1:], arguments.keywords, arguments.rest)
    if name in ("__call__", "forward") and not (name == "forward" and issubclass(definer, dspy.BaseLM)):
        return NOTHING.union(*(_run(reach, frame, atom, name, definer, inner, node) for atom in owners))
    if issubclass(definer, dspy.Module) or definer.__module__ == "dspy.primitives.base_module":
        return _of_module(reach, frame, name, definer, owners, inner, node)
    if name in _NOT_FOLLOWED:
        return reach.need(frame, node, "blocks", f"{definer.__module__}.{definer.__qualname__}.{name} may block")
    if "callbacks" in inner.keywords:
        reach.grow(reach.stored((definer, "callbacks")), inner.keywords["callbacks"])
    return ONLY_DATA | everything


def _run(reach: Reach, frame: Frame, atom: Any, name: str, definer: type, arguments: Arguments, node: Any) -> Value:
    """`super().__call__()`, or `super().forward()`, of a class of DSPy's."""
    if not isinstance(atom, (Held, Instance)):
        return ONLY_DATA
    if name == "__call__" and not issubclass(definer, (dspy.BaseLM, dspy.Adapter, dspy.Tool)):
        use_callbacks(reach, frame, atom, node)
        base, forward = reach.holdings.of_class(atom.cls, "forward")
        own = reach.part_of(atom, "forward") if isinstance(atom, Held) else None
        if own is not None:
            return reach.call(frame, own, arguments, node, "forward")
        if base is not None and not is_known(base):
            method = Bound(reach.holdings.constant(forward), atom, base)
            return reach.call(frame, frozenset([method]), arguments, node, "forward")
    if issubclass(definer, (dspy.BaseLM, dspy.Adapter, dspy.Tool)):
        return call_object(reach, frame, atom, atom.cls, arguments, node) or ONLY_DATA
    return use(reach, frame, atom, arguments, node)


def _of_module(
    reach: Reach, frame: Frame, name: str, definer: type, owners: Value, arguments: Arguments, node: Any
) -> Value:
    everything = arguments.all
    if name in ("__init__", "_base_init"):
        for atom in owners:
            if isinstance(atom, (Held, Instance)):
                reach.grow(reach.stored((atom.cls, "*init")), everything)
                reach.grow(reach.stored((atom.cls, "callbacks")), arguments.keywords.get("callbacks", NOTHING))
        return ONLY_DATA
    if name not in _READERS and definer.__name__ not in _KNOWN_MODULES:
        return reach.need(frame, node, "unread", f"{definer.__module__}.{definer.__qualname__}.{name} is not known")
    if name in _NOT_FOLLOWED:
        return reach.need(frame, node, "blocks", f"{definer.__module__}.{definer.__qualname__}.{name} may block")
    if name == "set_lm":
        use_lm(reach, frame, everything, node)
        reach.grow(reach.stored(("setting", "lm")), everything)
    found = ONLY_DATA | owners | everything
    for atom in owners:
        if isinstance(atom, Held) and name not in ("inspect_history", "dump_state"):
            for attr in list(attributes_of(atom.value)):
                if attr not in _OWN_ATTRIBUTES:
                    found |= reach.part_of(atom, attr) or NOTHING
    if name == "batch" or name == "map_named_predictors":
        found |= _use_parts(reach, frame, owners | everything, node)
    return found


def _of_settings(reach: Reach, frame: Frame, name: str, arguments: Arguments, node: Any) -> Value:
    if name not in ("context", "get", "copy", "__getitem__", "__contains__"):
        return reach.need(frame, node, "thread", f"dspy.settings.{name} depends on its thread")
    if name != "context":
        return ONLY_DATA.union(*(setting(reach, each) for each in ("lm", "adapter", "rm", "callbacks")))
    given = arguments.keywords
    if arguments.rest:
        reach.need(frame, node, "unread", "settings whose names are not known")
    for key, value in given.items():
        reach.grow(reach.stored(("setting", key)), value)
        if key == "lm":
            use_lm(reach, frame, value, node)
        elif key == "adapter":
            use_adapter(reach, frame, value, node)
    return ONLY_DATA


def construct(reach: Reach, frame: Frame, cls: type, arguments: Arguments, node: Any) -> Value:
    """An instance of one of DSPy's own classes is made."""
    instance = reach.instance(cls)
    reach.seen.add(("made", cls))
    use_text(reach, frame, arguments, node)
    reach.grow(reach.stored((cls, "*init")), arguments.all)
    for name in ("callbacks", "lm"):
        if name in arguments.keywords:
            reach.grow(reach.stored((cls, name)), arguments.keywords[name])
    return frozenset([instance])


def note_assignment(reach: Reach, frame: Frame, cls: type, name: str, value: Value, node: Any) -> None:
    """An attribute of a DSPy object is set, that it uses."""
    if issubclass(cls, dspy.Module) and name == "lm":
        use_lm(reach, frame, value, node)
