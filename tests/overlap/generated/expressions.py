"""Random expressions, as text, of a wanted type, over the names that are in scope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from hypothesis import strategies as st

__all__ = ["Expressions", "Scope"]

T = TypeVar("T")

WORDS = ("red", "blue", "river", "stone", "a b c", "")


@dataclass(frozen=True)
class Scope:
    """What may be used at a place in a program.

    Attributes:
        text: Names of strings.
        number: Names of integers.
        truth: Names of booleans.
        texts: Names of lists of strings.
        table: Names of dicts of strings.
        found: Names of predictions with `answer`.
        functions: Names of functions that take a string and return one.
        notes: Names of dataclasses with `text` and `tags`.
        items: Names of Pydantic models with `name` and `tags`.
        streams: Names of iterators over strings.
        views: Names of views of tables.
        kept: Names of lists of functions that take a string and return one.
        histories: Names of `dspy.History`.
        is_method: Whether there is a `self`.
        in_loop: Whether `break` and `continue` are allowed.
        nested: How deep in blocks this is.
    """

    text: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    table: tuple[str, ...] = ()
    found: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    histories: tuple[str, ...] = ()
    is_method: bool = True
    in_loop: bool = False
    nested: int = 0

    def with_name(self, kind: str, name: str) -> Scope:
        """With one more name, which may be known already."""
        known: tuple[str, ...] = getattr(self, kind)
        return self if name in known else replace(self, **{kind: (*known, name)})


@dataclass
class Expressions:
    """Draws expressions.

    Attributes:
        draw: Hypothesis's `draw`.
        modules: What `self.<name>(text=...)` may call.
        is_calm: Whether nothing is drawn that is likely to raise.
        more: What else draws strings, see `everyday`.
    """

    draw: Callable[[st.SearchStrategy[Any]], Any]
    modules: Sequence[str] = ()
    methods: list[str] = field(default_factory=list)
    is_calm: bool = False
    more: list[Callable[[Scope, int], str]] = field(default_factory=list)
    _in_iterable: int = 0

    def pick(self, *options: T) -> T:
        """One of these."""
        return self.draw(st.sampled_from(options))

    def chance(self, percent: int) -> bool:
        """True in about so many of 100 cases; shrinks to False."""
        return self.draw(st.integers(0, 99)) >= 100 - percent

    # Text

    def text(self, scope: Scope, depth: int = 2) -> str:
        if depth <= 0 or not self.chance(85):
            return self.pick(*(scope.text or ('"begin"',)), f'"{self.pick(*WORDS)}"')
        makers: list[Callable[[Scope, int], str]] = [self._formatted, self._method_of_text, self._joined, self._chosen]
        makers += [self._item, self._helper, *self.more]
        makers += [self._of_object] * 2 if scope.nested < 3 else []
        if scope.is_method:
            makers += [self._answer] * 6
        return self.pick(*makers)(scope, depth - 1)

    def simple(self, scope: Scope) -> str:
        """What may stand inside an f-string in every version of Python."""
        options = [*scope.text, *scope.number, *(f"{name}.answer" for name in scope.found)]
        options += [f"len({name})" for name in scope.texts] + [f"{name}[:6]" for name in scope.text]
        return self.pick(*(options or ["0"]))

    def _formatted(self, scope: Scope, depth: int) -> str:
        if self.chance(20):
            return f"{self.text(scope, depth)} + {self.text(scope, depth - 1)}"
        parts = [f"{{{self.simple(scope)}}}" for _ in range(self.pick(1, 2, 3))]
        return f'f"{self.pick(" ", ", ", " / ").join(parts)}"'

    def _method_of_text(self, scope: Scope, depth: int) -> str:
        method = self.pick("upper()", "strip()", 'replace("e", "3")', "title()", 'split(" ")[0]', 'rjust(3, "*")')
        return f"({self.text(scope, depth)}).{method}"

    def _joined(self, scope: Scope, depth: int) -> str:
        if self.chance(25):
            return f"spread(*{self.few(scope, depth)}, last={self.text(scope, depth - 1)})"
        return f'"; ".join({self.texts(scope, depth)})'

    def _chosen(self, scope: Scope, depth: int) -> str:
        return f"({self.text(scope, depth)} if {self.truth(scope, depth)} else {self.text(scope, depth)})"

    def _item(self, scope: Scope, depth: int) -> str:
        options = []
        if scope.texts:
            name = self.pick(*scope.texts)
            options += [f'({name} or ["none"])[0]', f'max({name}, key=len, default="none")', f'"".join({name}[-1:])']
            options += [f"{name}[{self.pick(0, -1, 1)}]"] * (self.chance(8) and not self.is_calm)
        if scope.table:
            name = self.pick(*scope.table)
            options += [f'{name}.get("{self.pick("a", "b", "red")}", "none")', f'next(iter({name}.values()), "none")']
        if scope.found:
            name = self.pick(*scope.found)
            options += [f"{name}.answer", f'{name}["answer"]', f"str({name}.answer)"]
        options.append(f"str({self.number(scope, depth)})")
        if scope.is_method:
            options.append(
                f'max({self.few(scope, 1)}, key=lambda each: self.rate(question=each).score, default="none")'
            )
        return self.pick(*options)

    def _helper(self, scope: Scope, depth: int) -> str:
        calls = [*scope.functions, "shout", "shout", "noted", "counted", "spread"]
        if scope.is_method:
            calls += [f"self.{name}" for name in self.methods] * 2
            if self.modules and self.chance(50):
                return f"self.{self.pick(*self.modules)}({self.text(scope, depth)}).answer"
            if self.chance(10):
                return f"asked_by(self.ask, {self.text(scope, depth)})"
        return f"{self.pick(*calls)}({self.text(scope, depth)})"

    def _of_object(self, scope: Scope, depth: int) -> str:
        """What is in an object of the user's, in a container that others may have, or what an iterator gives."""
        options = ['f"{LOG[-2:]}"', 'SHARED["a"]', 'f"{SHARED}"', f"cached({self.text(scope, 0)})"]
        if scope.is_method:
            options += ["self.known", 'f"{self.state}"', 'self.memory["a"]', 'f"{self.memory}"']
            options += [f"self.stores[0].get({self.text(scope, 0)})", 'f"{self.stores[0].list()}"']
            options += [f"self.extract(question={self.text(scope, depth - 1)}).item.name"]
            options += ["self.turn"] * self.chance(30)
        for name in scope.notes:
            options += [f"{name}.text", f"{name}.first()", f'f"{{{name}}}"', f"str(len({name}.tags))"]
        for name in scope.items:
            options += [f"{name}.name", f'f"{{{name}.tags}}"', f"str({name}.model_dump())"]
        for name in scope.streams:
            options += [f'next({name}, "none")', f'" ".join({name})']
        for name in scope.views:
            options += [f'" ".join(map(str, {name}))', f'f"{{list({name})}}"']
        for name in scope.kept:
            options += [f"{name}[0]({self.text(scope, depth - 1)})", f"{name}[-1]({self.text(scope, 0)})"] * 2
        return self.pick(*options)

    # Calls of predictors

    def _answer(self, scope: Scope, depth: int) -> str:
        return f"{self.prediction(scope, depth)}.answer"

    def prediction(self, scope: Scope, depth: int) -> str:
        """A call of a predictor that gives an `answer`."""
        predictor = self.pick(
            "self.ask",
            "self.think",
            "self.pair[0]",
            f"self.pair[{self.number(scope, 0)} % 2]",
            'self.named["a"]',
            'self.named["b"]',
            "self.rate",
            "self.listing",
        )
        question = self.text(scope, depth - 1)
        if self.chance(1) and not self.is_calm:
            return f'{predictor}(question="raise LMFailure")'
        if self.chance(1) and not self.is_calm:
            return f"{predictor}({question})"  # DSPy refuses positional arguments
        if scope.texts and self.chance(25):
            return f"self.informed(context={self.pick(*scope.texts)}, question={question})"
        if scope.histories and self.chance(40):
            return f"self.chat(question={question}, history={self.pick(*scope.histories)})"
        if self.chance(4):
            return f"{predictor}(question={question}, lm=OTHER)"
        if self.chance(3):
            return f'{predictor}(question={question}, config={{"temperature": {self.pick(0.5, 0.7)}}})'
        if self.chance(5):
            return f'{predictor}(**{{"question": {question}}})'
        return f"{predictor}(question={question})"

    # Numbers and truth

    def number(self, scope: Scope, depth: int = 2) -> str:
        if depth <= 0 or not self.chance(70):
            return self.pick(*(scope.number or ("1",)), *"0123")
        options: list[Callable[[], str]] = [
            lambda: f"len({self.text(scope, depth - 1)})",
            lambda: f"len({self.texts(scope, depth - 1)})",
            lambda: f"({self.number(scope, depth - 1)} {self.pick('+', '-', '*', '%')} {self.pick(*'123')})",
            lambda: f"sum(len(each) for each in {self.few(scope, depth - 1)})",
        ]
        if scope.is_method:
            options += [
                lambda: f"self.listing(question={self.text(scope, depth - 1)}).count",
                lambda: f"int(self.rate(question={self.text(scope, depth - 1)}).score * 10)",
                lambda: "self.total",
                lambda: "self.bump()",
            ]
        options += [lambda: "len(LOG)"] * self.chance(30)
        options += [lambda: f"(10 // {self.number(scope, 0)})"] * (self.chance(8) and not self.is_calm)
        options += [lambda: f"len({self.pick(*scope.views)})"] * bool(scope.views)
        return self.pick(*options)()

    def truth(self, scope: Scope, depth: int = 2) -> str:
        if depth <= 0 or not self.chance(85):
            return self.pick(*(scope.truth or ("True",)), f"{self.simple(scope)} != 1", "False")
        options: list[Callable[[], str]] = [
            lambda: f"len({self.text(scope, depth - 1)}) % 2 == 0",
            lambda: f"{self.number(scope, depth - 1)} {self.pick('>', '<=', '==')} {self.pick(*'0358')}",
            lambda: f"{self.pick('e', 'a', '3')!r} in {self.text(scope, depth - 1)}",
            lambda: f"not ({self.truth(scope, depth - 1)})",
            lambda: f"({self.truth(scope, depth - 1)} {self.pick('and', 'or')} {self.truth(scope, depth - 1)})",
            lambda: f"{self.text(scope, depth - 1)} < {self.text(scope, 0)}",
            lambda: f"isinstance({self.text(scope, 0)}, str)",
            lambda: f"bool({self.texts(scope, depth - 1)})",
        ]
        if scope.is_method:
            options += [
                lambda: f"self.rate(question={self.text(scope, depth - 1)}).good",
                lambda: f"self.rate(question={self.text(scope, depth - 1)}).score > 0.5",
                lambda: (
                    f"{self.pick('any', 'all')}(self.rate(question=each).good for each in {self.few(scope, depth - 1)})"
                ),
            ]
        return self.pick(*options)()

    # Lists and tables

    def few(self, scope: Scope, depth: int) -> str:
        """A list of at most three strings, so that loops in loops come to an end."""
        self._in_iterable += 1
        some = f"({self.texts(scope, depth)})[:{self.pick(2, 3)}]"
        self._in_iterable -= 1
        return some

    def texts(self, scope: Scope, depth: int = 2) -> str:
        if depth <= 0 or not self.chance(85):
            return self.pick(
                *scope.texts, '["red", "blue"]', f"[{self.pick(*(scope.text or ('0,',)))!s}]".replace("0,", "")
            )
        few = self.few(scope, depth - 1)
        inner = replace(scope.with_name("text", "each"), is_method=scope.is_method)
        options: list[Callable[[], str]] = [
            lambda: f"[{self.text(inner, depth)} for each in {few}]",
            lambda: f"[{self.text(inner, depth)} for each in {few} if {self.truth(inner, depth - 1)}]",
            lambda: f"[f'{{i}} {{each}}' for i, each in enumerate({few})]",
            lambda: f"[each + other for each in {few} for other in {self.few(scope, 0)}][:4]",
            lambda: f"list(map(lambda each: {self.text(inner, depth - 1)}, {few}))",
            lambda: f"list(filter(lambda each: {self.truth(inner, depth - 1)}, {few}))",
            lambda: f"sorted({few}, key=lambda each: {self.pick('len(each)', 'each[-2:]', '(len(each), each)')})",
            lambda: f"[*{few}, *{self.few(scope, 0)}]",
            lambda: f"list({self.text(inner, depth - 1)} for each in {few})",
            lambda: f"sorted({{{self.text(inner, depth - 1)} for each in {few}}})",
            lambda: f"[f'{{each}}{{other}}' for each, other in zip({few}, {self.few(scope, 0)})]",
            lambda: f"list(reversed({few}))",
            lambda: f"({self.text(scope, depth - 1)}).split()[:3]",
        ]
        options += [lambda: f"list({self.pick(*scope.streams)})[:3]"] * bool(scope.streams)
        options += [lambda: f"list(map(str, {self.pick(*scope.views)}))[:3]"] * bool(scope.views)
        options += [lambda: f"{self.pick(*scope.notes)}.tags[:3]"] * bool(scope.notes)
        options += [lambda: f"[kept({self.text(scope, 0)}) for kept in {self.pick(*scope.kept)}]"] * bool(scope.kept)
        if scope.is_method:
            options += [
                lambda: f"[{self._answer(inner, depth)} for each in {few}]",
                lambda: f"list(map(lambda each: {self._answer(inner, depth - 1)}, {few}))",
                lambda: f"self.listing(question={self.text(scope, depth - 1)}).parts",
                lambda: f"[self.ask(question=each).answer for each in {few}]",
                lambda: f"[asker(question={self.text(scope, 0)}).answer for asker in self.pair]",
                lambda: f"[self.ask(question={self.text(scope, 0)}).answer for _ in range({self.pick(2, 3)})]",
                lambda: "list(self.state[:3])",
                lambda: f"self.extract(question={self.text(scope, depth - 1)}).item.tags[:3]",
                lambda: f"self.stores[0].search({self.text(scope, depth - 1)})",
                lambda: "[each.get(str(each.count)) for each in self.stores]",
                lambda: f"sorted({few}, key=lambda each: self.rate(question=each).score)",
                lambda: f"[ask(question=each).answer for ask, each in zip(self.pair, {few})]",
            ]
            if not self._in_iterable:  # where Python allows no walrus
                options += [
                    lambda: f"[(seen := self.think(question=each).answer) + seen for each in {few}]",
                    lambda: f"[seen + each for each in {few} if (seen := self.ask(question=each).answer) > 'answer 8']",
                ]
        if scope.texts:
            name = self.pick(*scope.texts)
            options += [
                lambda: f"[each for each in [*{few}] if each not in {name} and {name}.append(each) is None]",
                lambda: f"[{name}.append(each) or each for each in [*{few}] if each not in {name}]",
                lambda: f"copy.copy({name})[:3]",
                lambda: f"copy.deepcopy({name})[:3]",
            ]
        if scope.table:
            options += [
                lambda: f"list({self.pick(*scope.table)}.values())[:4]",
                lambda: f"sorted({self.pick(*scope.table)})",
            ]
        return self.pick(*options)()

    def table(self, scope: Scope, depth: int = 2) -> str:
        inner = scope.with_name("text", "each")
        few = self.few(scope, depth - 1)
        options: list[Callable[[], str]] = [
            lambda: f"{{each: {self.text(inner, depth)} for each in {few}}}",
            lambda: f'{{"a": {self.text(scope, depth)}, "b": {self.text(scope, depth - 1)}}}',
            lambda: f"dict(zip({few}, {self.few(scope, depth - 1)}))",
            lambda: f"dict({self.pick(*scope.table) if scope.table else '{}'}, red={self.text(scope, depth - 1)})",
        ]
        if scope.is_method:
            options.append(
                lambda: (
                    f"{{name: ask(question={self.text(scope, depth - 1)}).answer for name, ask in self.named.items()}}"
                )
            )
        return self.pick(*options)()
