"""More programs of one construct each: what is made of values, and the builtins that take them."""

from __future__ import annotations

from typing import Any

import dspy

from tests.overlap.construct import CONSTRUCTS, construct

__all__ = ["CONSTRUCTS"]


@construct(1, 9)
def comprehensions_of_each_kind_that_call(self: Any, x: str) -> Any:
    listed = [self.a(x=f"{x}{i}").y for i in range(3) if i != 1]
    unique = {self.b(x=f"{x}{i}").y for i in range(3) for k in range(2) if k < i}
    table = {f"{i}": self.ask(x=f"{x}{i}").score for i in range(2)}
    made = tuple(self.a(x=f"{i}{k}").y for i in range(2) for k in range(2) if i == k)
    return dspy.Prediction(y=listed, unique=sorted(unique), table=table, made=made)


@construct(2, 3)
def condition_and_body_of_a_comprehension(self: Any, x: str) -> Any:
    kept = {f"{i}": self.b(x=f"{i}").y for i in range(3) if self.ask(x=f"{x}{i}").good}
    return dspy.Prediction(y=kept)


@construct(1, 4)
def stars_everywhere(self: Any, x: str) -> Any:
    first, *middle, last = (self.a(x=f"{x}{i}").y for i in range(4))
    table = {"first": first, **{"last": last}}
    return dspy.Prediction(y=[first, *middle, last], **table)


@construct(1, 2)
def assignments_to_several_targets(self: Any, x: str) -> Any:
    found = {}
    one = found["one"] = self.a(x=x).y
    pair = [None, None]
    pair[0], pair[1] = one, self.b(x=x).y
    note: str = pair[1]
    return dspy.Prediction(y=pair, found=found, note=note)


@construct(1, 2)
def augmented_items_and_attributes(self: Any, x: str) -> Any:
    table, result = {"n": 0.0}, dspy.Prediction(text="")
    for i in range(2):
        answer = self.ask(x=f"{x}{i}")
        table["n"] += answer.score
        result.text += f"{answer.good}"
    return dspy.Prediction(table=table, text=result.text)


@construct(1, 3)
def for_else_without_break(self: Any, x: str) -> Any:
    found = []
    for key, value in {"p": 1, "q": 2}.items():
        found.append(self.a(x=f"{x}{key}{value}").y)
    else:
        found.append(self.b(x=x).y)
    return dspy.Prediction(y=found)


@construct(2, 4)
def match_in_a_loop(self: Any, x: str) -> Any:
    found: list[Any] = []
    for i in range(4):
        match self.ask(x=f"{x}{i}").good:
            case True:
                found.append(self.a(x=f"{i}").y)
            case False | None:
                found.append(self.b(x=f"{i}").y)
    return dspy.Prediction(y=found)


@construct(1, 2)
def settings_context(self: Any, x: str) -> Any:
    with dspy.settings.context(adapter=dspy.JSONAdapter(), lm=dspy.settings.lm):
        one, two = self.a(x=x), self.b(x=x)
    return dspy.Prediction(y=one.y, z=two.y)


@construct(2, 2)
def try_with_calls_in_else_and_finally(self: Any, x: str) -> Any:
    try:
        one = self.a(x=x).y
    except LookupError:
        one = ""
    else:
        two = self.b(x=x).y
    finally:
        three = self.a(x=f"{one}{two}").y
    return dspy.Prediction(y=[one, two, three])


def shouted(text: str, *, times: int = 1) -> str:
    return text.upper() + "!" * times


def asked(program: Any, x: str) -> str:
    return shouted(program.a(x=x).y, times=2)


@construct(1, 3)
def helper_functions(self: Any, x: str) -> Any:
    return dspy.Prediction(y=[asked(self, f"{x}{i}") for i in range(3)])


@construct(2, 3)
def builtins_with_a_key(self: Any, x: str) -> Any:
    found = [self.ask(x=f"{x}{i}") for i in range(3)]
    worst = min(found, key=lambda each: (each.good, each.score))
    ranked = sorted(enumerate(found), key=lambda pair: pair[1].score, reverse=True)
    total = sum(map(lambda each: each.score, found))
    return dspy.Prediction(y=self.a(x=f"{worst.score} {ranked[0][0]} {total:.1f}").y)


@construct(2, 2)
def methods_of_texts(self: Any, x: str) -> Any:
    one, two = self.a(x=x).y, self.b(x=x).y
    words = one.replace("a", "b").strip().lower().split()
    head, _, tail = two.partition(" ")
    is_long = two.startswith(head) and len(words) >= 1
    return self.a(x=" ".join([*words[:2], tail.capitalize(), f"{is_long}", "%s" % head]))  # noqa: UP031


@construct(2, 3)
def methods_of_sets_tuples_and_dicts(self: Any, x: str) -> Any:
    one = {self.a(x=f"{x}{i}").y for i in range(2)}
    two = {"b": self.b(x=x).y}
    two.update(c="c")
    two.setdefault("d", "d")
    both = one | set(two.values())
    place = ("c", "d").index("d")
    return self.a(x=f"{sorted(both)} {place} {two.pop('c')} {two.get('e', 'none')} {list(two.items())}")


@construct(2, 2)
def methods_of_lists(self: Any, x: str) -> Any:
    found = [self.a(x=x).y]
    found.insert(0, self.b(x=x).y)
    found.extend(["c", "d"])
    found.remove("c")
    found.reverse()
    last = found.pop()
    return self.a(x=f"{found} {last} {found[1:]} {found.index('d')}")


@construct(2, 2)
def examples_and_predictions(self: Any, x: str) -> Any:
    example = dspy.Example(question=x, answer=self.a(x=x).y).with_inputs("question")
    other = dspy.Prediction(text=self.b(x=x).y)
    other["note"] = example.answer
    return self.a(x=f"{example.question} {example.get('answer')} {other.text} {sorted(other.keys())}")


@construct(1, 2)
def nested_functions_with_closures(self: Any, x: str) -> Any:
    prefix = x + ":"

    def outer(text: str) -> str:
        def inner(mark: str) -> Any:
            return self.a(x=prefix + text + mark).y

        return inner("!")

    return dspy.Prediction(y=[outer("one"), outer("two")])


@construct(2, 3)
def walrus_in_a_condition(self: Any, x: str) -> Any:
    kept = [y for i in range(3) if (y := self.a(x=f"{x}{i}").y)]
    return self.b(x=" ".join(kept))


@construct(1, 4)
def products_of_zip_and_range(self: Any, x: str) -> Any:
    found = []
    for number, (one, two) in enumerate(zip("ab", ["c", "d"], strict=True), start=1):
        for step in range(0, 4, 2):
            found.append(self.a(x=f"{number}{one}{two}{step}").y)
    return dspy.Prediction(y=found[::-1])


@construct(2, 2)
def conditions_that_change_what_others_see(self: Any, x: str) -> Any:
    seen: list[str] = []
    kept = [f"{i}{len(seen)}" for i in (1, 2, 1) if i not in seen and seen.append(i) is None]
    more = [seen.append(i) for i in (3, 4, 3) if i not in seen]
    last = [y for i in (1, 2) if (y := self.a(x=f"{i}{len(more)}").y) for _ in range(1) if (y := f"{y}{i}")]
    return self.b(x=f"{kept} {seen} {last} {y}")
