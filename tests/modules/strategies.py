"""Random programs as a user might write them: trees of modules whose `forward()` is a list of statements.

A statement is a plain tuple, so that Hypothesis shrinks programs and prints them readably. `build()` makes real
modules of them; each call gives fresh objects.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dspy
from hypothesis import strategies as st

from dspy_parallel import loop_safe
from tests.support.observation import Halt, Recorder, World

Statement = tuple[Any, ...]
Body = list[Statement]

mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="unset")

THREADED = {"tool", "parallel", "pool"}
"""Statements that need a thread, so that `engine="loop"` refuses them."""


class Trouble(Exception):
    """An exception of the program's own, with state beyond its text."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text, code)
        self.code = code


simple = st.one_of(
    st.tuples(st.just("predict"), st.integers(0, 2)),
    st.tuples(st.just("predict_many"), st.integers(0, 2)),
    st.tuples(st.just("fail"), st.integers(0, 2)),
    st.tuples(st.just("bad_input"), st.integers(0, 2)),
    st.tuples(st.just("raise"), st.sampled_from(["ValueError", "Trouble", "Halt", "from", "bare"])),
    st.tuples(st.just("tool"), st.sampled_from(["sync", "async", "safe", "asking", "failing"])),
    st.tuples(st.just("count")),
    st.tuples(st.just("settings")),
    st.tuples(st.just("mark"), st.sampled_from("abc")),
    st.tuples(st.just("ask_lm")),
    st.tuples(st.just("parallel"), st.integers(1, 3)),
    st.tuples(st.just("pool")),
    st.tuples(st.just("sleep")),
    st.tuples(st.just("generate"), st.integers(1, 2)),
    st.tuples(st.just("best_of_n"), st.integers(1, 2)),
    st.tuples(st.just("usage")),
)


def compound(bodies: st.SearchStrategy[Body]) -> st.SearchStrategy[Statement]:
    context = st.sampled_from(["lm", "adapter", "trace", "no trace", "callbacks", "usage", "no usage", "no history"])
    return st.one_of(
        st.tuples(st.just("loop"), st.integers(0, 2), bodies),
        st.tuples(st.just("branch"), bodies, bodies),
        st.tuples(st.just("helper"), bodies),
        st.tuples(st.just("try"), bodies, bodies),
        st.tuples(st.just("finally"), bodies, bodies),
        st.tuples(st.just("context"), context, bodies),
        st.tuples(st.just("module"), bodies),
        st.tuples(st.just("subclass"), bodies, bodies),
        st.tuples(st.just("patched"), bodies),
        st.tuples(st.just("forward"), bodies),
    )


def programs(size: int = 8) -> st.SearchStrategy[Body]:
    """Programs of up to about `size` statements."""
    some = st.lists(simple, min_size=1, max_size=4)
    return st.recursive(
        some, lambda inner: st.lists(st.one_of(simple, compound(inner)), min_size=1, max_size=4), max_leaves=size
    )


def statements(body: Body) -> Iterator[Statement]:
    """All statements of a program, nested ones too."""
    for statement in body:
        yield statement
        for part in statement[1:]:
            if isinstance(part, list):
                yield from statements(part)


def needs_thread(body: Body) -> bool:
    """Whether `engine="loop"` would refuse the program."""
    return any(
        kind in THREADED and more != ("safe",) and more != ("async",)
        for kind, *rest in statements(body)
        for more in [tuple(rest)]
    )


class Block(dspy.Module):
    """Interprets a body; text flows from statement to statement."""

    def __init__(self, body: Body, world: World, depth: int = 0) -> None:
        super().__init__()
        self.first = dspy.ChainOfThought("question -> answer")
        self.others = [dspy.Predict("question -> answer"), dspy.Predict("question -> answer: list[str], length: int")]
        self.named = {"brief": dspy.Predict("question -> answer")}
        self.count = 0
        self.depth = depth
        self._body = body
        self._world = world
        self._children: list[Any] = []  # reached by forward alone: not parameters
        self.children = self._children

    def forward(self, text: str) -> Any:
        return dspy.Prediction(text=self.run(self._body, text))

    def run(self, body: Body, text: str) -> str:
        for kind, *rest in body:
            text = str(getattr(self, f"do_{kind}")(text, *rest))
        return text

    def predictor(self, which: int) -> Any:
        return [self.first, self.others[which % 2], self.named["brief"]][which]

    def child(self, body: Body, cls: Any = None) -> Any:
        made = (cls or Block)(body, self._world, self.depth + 1)
        self._children.append(made)
        self._world.describe.introduce(made, f"child {len(self._children)} at {self.depth}")
        return made

    # Calls

    def do_predict(self, text: str, which: int) -> Any:
        prediction = self.predictor(which)(question=text)
        self._world.note("answer", prediction.answer)
        return prediction.answer

    def do_predict_many(self, text: str, which: int) -> Any:
        prediction = self.predictor(which)(question=text, config={"n": 2})
        return prediction.completions.answer

    def do_fail(self, text: str, which: int) -> Any:
        return self.predictor(which)(question=f"raise LMFailure {text}").answer

    def do_bad_input(self, text: str, which: int) -> Any:
        return self.predictor(which)(questions=text).answer

    def do_ask_lm(self, text: str) -> Any:
        return dspy.settings.lm(f"say {text}")[0]

    def do_best_of_n(self, text: str, attempts: int) -> Any:
        def reward(_: Any, prediction: Any) -> float:
            self._world.note("reward", prediction.answer)
            return len(str(prediction.answer)) % 3 / 2

        best = dspy.BestOfN(dspy.Predict("question -> answer"), N=attempts, reward_fn=reward, threshold=1.0)
        return best(question=text)

    def do_parallel(self, text: str, count: int) -> Any:
        # In one thread, as only then the order of effects is defined.
        run = dspy.Parallel(num_threads=1, disable_progress_bar=True)
        return [
            found and found.answer for found in run([(self.first, {"question": f"{text} {n}"}) for n in range(count)])
        ]

    def do_pool(self, text: str) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(contextvars.copy_context().run, self.first, question=text).result().answer

    def do_tool(self, text: str, how: str) -> Any:
        def sync(text: str) -> str:
            self._world.note("tool", mark.get())
            return text[::-1]

        async def awaits(text: str) -> str:
            self._world.note("async tool", mark.get())
            return text[::-1]

        def asking(text: str) -> str:
            return self.first(question=text).answer

        def failing(text: str) -> str:
            raise Trouble(text, 7)

        functions: dict[str, Any] = {"sync": sync, "async": awaits, "asking": asking, "failing": failing}
        tool = dspy.Tool(functions.get(how) or loop_safe(sync), name=how)
        self._world.describe.introduce(tool, f"tool {how}")
        return tool(text=text)

    def do_generate(self, text: str, count: int) -> Any:
        def answers() -> Iterator[str]:
            for n in range(count):
                yield self.first(question=f"{text} {n}").answer

        return "; ".join(answers())

    # Control flow

    def do_loop(self, text: str, count: int, body: Body) -> Any:
        for n in range(count):
            text = self.run(body, f"{text}.{n}"[-100:])
        return text

    def do_branch(self, text: str, one: Body, other: Body) -> Any:
        return self.run(one if sum(map(ord, text)) % 2 else other, text)

    def do_helper(self, text: str, body: Body) -> Any:
        return functools.reduce(lambda _, part: self.run(body, part), [text], "")

    def do_try(self, text: str, body: Body, handler: Body) -> Any:
        try:
            return self.run(body, text)
        except Exception as exc:
            self._world.note("caught", exc)
            return self.run(handler, type(exc).__name__)

    def do_finally(self, text: str, body: Body, cleanup: Body) -> Any:
        try:
            return self.run(body, text)
        finally:
            self._world.note("cleanup")
            self.run(cleanup, text)

    def do_raise(self, text: str, how: str) -> Any:
        if how == "from":
            try:
                raise KeyError(text)
            except KeyError as exc:
                raise Trouble("because", 3) from exc
        if how == "bare":
            try:
                raise Trouble(text)
            except Trouble:
                self._world.note("seen")
                raise
        if how == "Halt":
            raise Halt(text)
        raise Trouble(text, 5) if how == "Trouble" else ValueError(text, len(text))

    # Modules

    def do_module(self, text: str, body: Body) -> Any:
        return self.child(body)(text).text

    def do_subclass(self, text: str, body: Body, more: Body) -> Any:
        class Sub(Block):
            def forward(self, text: str) -> Any:
                return super().forward(self.run(more, text))

        return self.child(body, Sub)(text=text).text

    def do_patched(self, text: str, body: Body) -> Any:
        child = self.child(body)
        original = child.forward

        def patched(*args: Any, **kwargs: Any) -> Any:
            self._world.note("patched")
            return original(*args, **kwargs)

        child.forward = patched
        return child(text).text

    def do_forward(self, text: str, body: Body) -> Any:
        return self.child(body).forward(text).text

    # State and context

    def do_count(self, text: str) -> Any:
        self.count += 1
        self._world.note("count", self.count)
        return f"{text} {self.count}"[-100:]

    def do_mark(self, text: str, value: str) -> Any:
        self._world.note("mark", mark.get())
        mark.set(value)
        return text

    def do_settings(self, text: str) -> Any:
        current = dspy.settings
        self._world.note(
            "settings",
            self._world.describe(current.lm),
            type(current.adapter).__name__,
            None if current.trace is None else len(current.trace),
            len(current.callbacks),
            current.track_usage,
            [type(module).__name__ for module in current.caller_modules or []],
            mark.get(),
        )
        return text

    def do_usage(self, text: str) -> Any:
        with dspy.track_usage() as tracker, contextlib.suppress(ValueError):
            self.first(question=text)
        self._world.note("usage", tracker.get_total_tokens())
        return text

    def do_sleep(self, text: str) -> Any:
        time.sleep(0.0001)
        return text

    def do_context(self, text: str, what: str, body: Body) -> Any:
        changes: dict[str, Any] = {
            "lm": {"lm": self._world.lms["other"]},
            "adapter": {"adapter": dspy.JSONAdapter()},
            "trace": {"trace": []},
            "no trace": {"trace": None},
            "callbacks": {"callbacks": [Recorder(self._world.describe, "inner")]},
            "usage": {"track_usage": True},
            "no usage": {"track_usage": False},
            "no history": {"disable_history": True},
        }
        with dspy.context(**changes[what]):
            result = self.run(body, text)
            if what == "trace":
                self._world.note("inner trace", [(module, inputs) for module, inputs, _ in dspy.settings.trace])
            if what == "callbacks":
                self._world.note("inner callbacks", changes[what]["callbacks"][0].events)
        return result


def build(body: Body, world: World) -> Block:
    """The program, of a class of its own, because engines and placement belong to classes."""
    return type("Program", (Block,), {})(body, world)
