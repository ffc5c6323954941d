"""Programs of one construct each, as `forward(self, x)` of a module with some predictors."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter, defaultdict
from typing import Any

import dspy
import pydantic

from dspy_parallel import pure
from tests.overlap.construct import CONSTRUCTS, Construct, construct

__all__ = ["CONSTRUCTS", "Construct"]


@construct(1, 2)
def names(self: Any, x: str) -> Any:
    one = self.a(x=x)
    two = self.b(x=x)
    return dspy.Prediction(y=one.y + two.y)


@construct(1, 3)
def tuples_and_stars(self: Any, x: str) -> Any:
    first, (second, third) = self.a(x=x).y, (self.b(x=x).y, self.a(x=x + "!").y)
    head, *rest = [first, second, third]
    return dspy.Prediction(y=head, rest=rest)


@construct(1, 2)
def items_and_attributes_of_fresh_containers(self: Any, x: str) -> Any:
    found: dict[str, Any] = {}
    found["one"] = self.a(x=x).y
    found["two"] = self.b(x=x).y
    result = dspy.Prediction()
    result.y = found["one"]
    result.z = found
    return result


@construct(1, 3)
def augmented(self: Any, x: str) -> Any:
    text, total, parts = "", 0.0, []
    for i in range(3):
        answer = self.ask(x=f"{x}{i}")
        text += f"{answer.good} "
        total += answer.score
        parts += [answer.score]
    return dspy.Prediction(y=text, total=total, parts=parts)


@construct(2, 2)
def if_elif_else(self: Any, x: str) -> Any:
    answer = self.ask(x=x)
    other = self.a(x=x)
    if answer.score > 0.7:
        y = self.a(x="high").y
    elif answer.score > 0.3:
        y = self.b(x="middle").y
    else:
        y = self.a(x="low").y
    return dspy.Prediction(y=y, other=other.y)


@construct(2, 3)
def conditional_expression(self: Any, x: str) -> Any:
    return dspy.Prediction(
        y=[self.a(x=f"{i}").y if self.ask(x=f"{x}{i}").good else self.b(x=f"{i}").y for i in range(3)]
    )


@construct(2, 2)
def and_or_not(self: Any, x: str) -> Any:
    one = self.ask(x=x).good and self.ask(x=x + "!").good
    two = not self.ask(x=x + "?").good or self.ask(x=x + ".").good
    return dspy.Prediction(one=one, two=two)


@construct(1, 4)
def for_with_append(self: Any, x: str) -> Any:
    found = []
    for i in range(4):
        found.append(self.a(x=f"{x}{i}").y)
    return dspy.Prediction(y="\n".join(found))


@construct(2, 6)
def for_with_branch(self: Any, x: str) -> Any:
    good, count = [], 0
    for i in range(3):
        if self.ask(x=f"{x}{i}").good:
            good.append(self.a(x=f"{i}").y)
        else:
            count += 1
        good.append(self.b(x=f"{i}").y)
    return dspy.Prediction(y=good, count=count)


@construct(1, 3)
def for_with_continue(self: Any, x: str) -> Any:
    found = []
    for i in range(3):
        answer = self.ask(x=f"{x}{i}")
        if not answer.good:
            continue
        found.append(answer.score)
    return dspy.Prediction(y=found)


@construct(4, 1)
def for_with_break_and_else(self: Any, x: str) -> Any:
    for i in range(4):
        if self.ask(x=f"{x}{i}").score > 2:
            break
    else:
        return dspy.Prediction(y="none")
    return dspy.Prediction(y=i)


@construct(2, 2)
def break_holds_up_no_other(self: Any, x: str) -> Any:
    other = self.b(x=x)
    tries = 0
    while tries < 2:
        tries += 1
        if self.ask(x=f"{x}{tries}").score > 2:
            break
    return dspy.Prediction(y=tries, other=other.y)


@construct(1, 3)
def while_with_a_counter(self: Any, x: str) -> Any:
    found, i = [], 0
    while i < 3:
        found.append(self.a(x=f"{x}{i}").y)
        i += 1
    else:
        found.append("end")
    return dspy.Prediction(y=found)


@construct(2, 2)
def match(self: Any, x: str) -> Any:
    other = self.b(x=x)
    match self.ask(x=x).good, x:
        case True, str(text):
            y = self.a(x=text + "good").y
        case False, text if text:
            y = self.a(x=text + "bad").y
        case _:
            y = ""
    return dspy.Prediction(y=y, other=other.y)


@construct(2, 9)
def comprehensions(self: Any, x: str) -> Any:
    pairs = [self.a(x=f"{i}{k}").y for i in range(3) for k in range(3) if i != k]
    answers = {f"{i}": self.ask(x=f"{x}{i}").score for i in range(3)}
    kept = {key for key, score in answers.items() if score >= 0}
    return dspy.Prediction(y=pairs, kept=sorted(kept), z=self.b(x=f"{answers}").y)


@construct(2, 3)
def comprehension_with_a_condition(self: Any, x: str) -> Any:
    kept = [self.a(x=f"{i}").y for i in range(3) if self.ask(x=f"{x}{i}").good]
    return dspy.Prediction(y=kept)


@construct(1, 3)
def generator_expressions(self: Any, x: str) -> Any:
    return dspy.Prediction(y=" ".join(self.a(x=f"{x}{i}").y for i in range(3)))


@construct(1, 3)
def all_of_a_list(self: Any, x: str) -> Any:
    return dspy.Prediction(y=all([self.ask(x=f"{x}{i}").good for i in range(3)]))


@construct(1, 2)
def early_return(self: Any, x: str) -> Any:
    if len(x) > 2:
        one, two = self.a(x=x), self.b(x=x)
        return dspy.Prediction(y=one.y + two.y)
    return self.a(x="short")


@construct(1, 2)
def try_body(self: Any, x: str) -> Any:
    try:
        one = self.a(x=x)
        two = self.b(x=x)
    except ValueError:
        return dspy.Prediction(y="failed")
    finally:
        done = True
    return dspy.Prediction(y=one.y + two.y, done=done)


@construct(2, 2)
def texts_and_slices(self: Any, x: str) -> Any:
    one, two = self.a(x=x).y, self.b(x=x).y
    return self.a(x=f"{one[:3]!r:>10} {two.upper()[-2:]} {one.title()} {len(two)}")


@construct(1, 4)
def arguments(self: Any, x: str) -> Any:
    more = ["1", "2"]
    named = {"three": "3"}
    return dspy.Prediction(y=self.both(x, *more, **named))


@construct(2, 3)
def lambdas_and_keys(self: Any, x: str) -> Any:
    found = [self.ask(x=f"{x}{i}") for i in range(3)]
    best = max(found, key=lambda each: each.score)
    ranked = sorted(found, key=lambda each: -each.score)
    texts = list(map(lambda each: f"{each.score}", ranked))
    return dspy.Prediction(best=best.score, texts=texts, y=self.a(x=texts[0]).y)


@construct(1, 3)
def map_and_filter(self: Any, x: str) -> Any:
    answers = list(map(lambda i: self.ask(x=f"{x}{i}"), range(3)))
    return dspy.Prediction(y=[answer.score for answer in filter(lambda each: each.good, answers)])


@construct(1, 3)
def zip_enumerate_reversed(self: Any, x: str) -> Any:
    found = [p(x=f"{x}{i}") for i, (p, _) in enumerate(zip(self.several, reversed("abc"), strict=True))]
    return dspy.Prediction(y=[each.y for each in reversed(found)])


@construct(1, 2)
def walrus(self: Any, x: str) -> Any:
    found = [(one := self.a(x=x)).y, self.b(x=x).y]
    return dspy.Prediction(y=found, z=one.y)


@construct(1, 2)
def local_functions(self: Any, x: str) -> Any:
    def shout(text: str, mark: str = "!") -> Any:
        return self.a(x=text + mark).y

    return dspy.Prediction(y=shout(x) + shout(x, mark="?"))


@construct(2, 6)
def helper_methods(self: Any, x: str) -> Any:
    return dspy.Prediction(y=[self.helper(f"{x}{i}") for i in range(6)])


@construct(1, 4)
def submodules(self: Any, x: str) -> Any:
    return dspy.Prediction(y=self.inner(x=x).y + self.inner(x=x + "2").y)


@construct(1, 5)
def predictors_in_containers(self: Any, x: str) -> Any:
    found = [each(x=x).y for each in self.several]
    return dspy.Prediction(y=found, p=self.named["p"](x=x).y, q=self.named["q"](x=x).z)


@construct(1, 3)
def predictors_by_number(self: Any, x: str) -> Any:
    return dspy.Prediction(y=[self.predictors()[i](x=x).toDict() for i in range(3)])


@construct(1, 3)
def majority(self: Any, x: str) -> Any:
    return dspy.majority([self.a(x=f"{x}{i}") for i in range(3)])


@construct(2, 3)
def methods_of_containers(self: Any, x: str) -> Any:
    found: dict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for i in range(3):
        answer = self.a(x=f"{x}{i}")
        found[f"{i % 2}"].append(answer.y)
        counts[answer.y] += 1
    seen = {each for group in found.values() for each in group}
    seen.add("more")
    return dspy.Prediction(y=sorted(seen), counts=sorted(counts), z=self.b(x=json.dumps(found)).y)


@construct(2, 2)
def context(self: Any, x: str) -> Any:
    with dspy.context(adapter=dspy.JSONAdapter()):
        one = self.a(x=x)
    two = self.a(x=x)
    return dspy.Prediction(y=one.y, z=self.b(x=two.y).y)


class Note(pydantic.BaseModel):
    """A record."""

    text: str
    rank: int = 0


@construct(2, 2)
def records(self: Any, x: str) -> Any:
    notes = [Note(text=self.a(x=f"{x}{i}").y, rank=-i) for i in range(2)]
    notes.sort(key=lambda note: note.rank)
    return self.a(x=" ".join(note.text for note in notes))


@construct(2, 2)
def stores_in_self(self: Any, x: str) -> Any:
    self.limit = 0.25
    self.last = self.ask(x=x)
    other = self.b(x=x)
    self.log = [self.last.score > self.limit, other.y]
    return self.a(x=f"{self.log}")


@construct(2, 2)
def partials_and_regular_expressions(self: Any, x: str) -> Any:
    call = functools.partial(self.a, x=x)
    one, two = call(), call(x=x + "!")
    return self.b(x=re.sub(r"\d", "#", one.y) + two.y)


@pure
def look_up(key: str) -> str:
    return key[::-1]


@construct(2, 2)
def pure_functions(self: Any, x: str) -> Any:
    one, two = self.a(x=x).y, self.b(x=x).y
    return self.a(x=look_up(one) + look_up(two))


@construct(1, 3)
def equal_inputs(self: Any, x: str) -> Any:
    return dspy.Prediction(y=[self.a(x=x, config={"temperature": 1.0}).y for _ in range(3)])


@construct(3, 1)
def really_sequential(self: Any, x: str) -> Any:
    for _ in range(3):
        x = self.a(x=x).y
    return dspy.Prediction(y=x)
