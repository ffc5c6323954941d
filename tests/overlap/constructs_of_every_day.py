"""What people write around LM calls: patterns, locks, settings, validators, classes of their own."""

from __future__ import annotations

import ast
import contextlib
import enum
import hashlib
import json
import logging
import os
import random
import re
import sys
import threading
import time
import urllib.parse
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import dspy
import pydantic
from rich.progress import track
from tqdm import tqdm

from dspy_parallel import loop_safe
from tests.overlap.construct import CONSTRUCTS, construct

__all__ = ["CONSTRUCTS"]

log = logging.getLogger(__name__)
WORDS = re.compile(r"\w+")


@construct(1, 3)
def compiled_patterns(self: Any, x: str) -> Any:
    found = [m.group().upper() for m in WORDS.finditer(f"{x} two {x}")]
    asked = [self.a(x=each).y for each in found]
    cleaned = [WORDS.sub("-", each) for each in asked]
    matched = [bool(WORDS.match(each)) and WORDS.search(each).end() for each in asked]
    parts = [WORDS.split(each) + WORDS.findall(each) for each in asked]
    return dspy.Prediction(y=cleaned, z=matched, parts=parts)


@construct(2, 2)
def patterns_before_what_comes_next(self: Any, x: str) -> Any:
    one = WORDS.sub(str.upper, "a b") if not x else WORDS.sub("c", self.a(x=x).y, count=1)
    other = self.b(x=x).y
    return dspy.Prediction(y=self.a(x=one).y, z=self.b(x=other).y)


@construct(1, 2)
def any_setting(self: Any, x: str) -> Any:
    options = {"track_usage": True}
    with dspy.context(show_guidelines=False, **options):
        one = self.a(x=x).y
    with dspy.settings.context(async_max_workers=3):
        other = self.b(x=x).y
    return dspy.Prediction(y=one, z=other, has=hasattr(dspy.settings, "lm"))


@construct(1, 3)
def settings_in_a_loop(self: Any, x: str) -> Any:
    found = []
    for i in range(3):
        with dspy.context(lm=dspy.settings.lm):
            found.append(self.a(x=f"{x}{i}").y)
    return dspy.Prediction(y=found)


@construct(1, 2)
def usage_of_a_block(self: Any, x: str) -> Any:
    with dspy.track_usage() as usage:
        one, other = self.a(x=x).y, self.b(x=x).y
    return dspy.Prediction(y=one, z=other, tokens=usage.get_total_tokens())


LOCK = threading.RLock()


@construct(1, 3)
def locks(self: Any, x: str) -> Any:
    found: list[str] = []
    for i in range(3):
        answer = self.a(x=f"{x}{i}").y
        with LOCK:
            found.append(answer)
    return dspy.Prediction(y=found)


@contextlib.contextmanager
def timed(name: str) -> Any:
    start = time.perf_counter()
    try:
        yield name.upper()
    finally:
        log.debug("%s is over, %s", name, time.perf_counter() > start)


class Stage:
    def __init__(self, name: str) -> None:
        self.name = name
        self.entered = 0

    def __enter__(self) -> Stage:
        self.entered += 1
        return self

    def __exit__(self, *exc: Any) -> bool:
        log.debug("left %s", self.name)
        return False


@construct(1, 4)
def context_managers_of_ones_own(self: Any, x: str) -> Any:
    found = []
    with timed("one") as title, contextlib.nullcontext("more") as more:
        found.append(self.a(x=f"{title} {more} {x}").y)
    with Stage("two") as stage:
        found.append(self.b(x=f"{stage.name} {stage.entered}").y)
    for i in range(2):
        with timed("loop"):
            found.append(self.a(x=f"{x}{i}").y)
    return dspy.Prediction(y=found)


@construct(1, 2)
def leaving_a_block(self: Any, x: str) -> Any:
    for i in range(3):
        with timed("block"), contextlib.suppress(ValueError):
            if i == 1:
                break
            one = self.a(x=f"{x}{i}").y
            int("no number")
    with timed("return"):
        return dspy.Prediction(y=one, z=self.b(x=x).y)


@construct(1, 2)
def environment(self: Any, x: str) -> Any:
    rounds = int(os.getenv("ROUNDS_OF_A_TEST", "2"))
    found = [self.a(x=f"{x}{i}{os.environ.get('NO_SUCH_THING', '')}").y for i in range(rounds)]
    return dspy.Prediction(y=found, home="PATH" in os.environ)


@construct(1, 3)
def hashes_and_urls(self: Any, x: str) -> Any:
    seen: set[str] = set()
    found = {}
    for each in (x, x, x + "!", x + "?"):
        key = hashlib.sha256(each.encode()).hexdigest()
        if key in seen:
            continue
        seen.add(key)
        found[key[:6]] = self.a(x=urllib.parse.quote(each)).y
    return dspy.Prediction(y=found)


@construct(2, 2)
def exceptions_on_known_values(self: Any, x: str) -> Any:
    found = []
    for text in ('{"a": 1}', "no json"):
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            data = {"error": f"{type(error).__name__} {error.msg} {error.pos}"}
        found.append(self.a(x=f"{x}{data}").y)
    one = self.b(x=found[0]).y
    return dspy.Prediction(y=found, z=one)


class Vote(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)

    label: Literal["yes", "no"]
    weight: float = pydantic.Field(ge=0, le=1)

    @pydantic.field_validator("label", mode="before")
    @classmethod
    def _lower(cls, value: str) -> str:
        return value.lower().strip()

    @pydantic.model_validator(mode="after")
    def _checked(self) -> Vote:
        if self.weight < 0.01:
            raise ValueError("too light")
        return self


class Item(pydantic.BaseModel):
    name: str
    slug: str = ""
    owner: str | None = None

    def model_post_init(self, context: Any) -> None:
        if not self.slug:
            self.slug = re.sub(r"\W+", "-", self.name.lower())


@construct(1, 3)
def models_with_validators(self: Any, x: str) -> Any:
    votes, problems = [], []
    for i in range(3):
        reply = self.ask(x=f"{x}{i}")
        try:
            votes.append(Vote(label=" YES " if reply.good else "No", weight=reply.score))
        except pydantic.ValidationError as error:
            problems.append(error.errors()[0]["msg"])
    return dspy.Prediction(y=[vote.model_dump() for vote in votes], z=problems)


@construct(2, 3)
def models_that_are_filled_in(self: Any, x: str) -> Any:
    items = [Item(name=f"{x} {i}") for i in range(3)]
    for item in items:
        item.owner = self.a(x=item.slug).y
    last = self.b(x=", ".join(f"{item.name}: {item.owner}" for item in items)).y
    return dspy.Prediction(y=[item.model_dump() for item in items], z=last)


class Deck:
    """Slides, in order."""

    def __init__(self, title: str, *, first: str = "") -> None:
        self.title = title
        self.slides: list[str] = [first] if first else []

    def add(self, text: str) -> int:
        self.slides.append(text)
        return len(self.slides)


@construct(1, 3)
def objects_of_ones_own(self: Any, x: str) -> Any:
    deck = Deck(x.title(), first="start")
    for i in range(3):
        deck.add(self.a(x=f"{deck.title}{i}").y)
    return dspy.Prediction(y=deck.slides, z=deck.title)


@dataclass
class Report:
    title: str
    score: float = 0.0
    notes: list[str] = field(default_factory=list)


@construct(1, 2)
def records_as_dicts(self: Any, x: str) -> Any:
    reports = [Report(x, 0.5, ["a"]), Report(x + "!")]
    found = [self.a(x=json.dumps(asdict(each))).y for each in reports]
    return dspy.Prediction(y=found)


@construct(1, 2)
def chance_and_names(self: Any, x: str) -> Any:
    generator = random.Random(7)
    one, other = self.a(x=type(self).__name__[:0] + x).y, self.b(x=x.__class__.__name__).y
    return dspy.Prediction(y=[one, other][generator.randrange(2)])


@construct(1, 2)
def handlers_in_a_dict(self: Any, x: str) -> Any:
    handlers = {"one": self.a, "two": self.b}
    found = []
    for kind in ("one", "three"):
        handler = handlers.get(kind, self.b)
        found.append(handler(x=x).y)
    return dspy.Prediction(y=found)


@construct(1, 2)
def imports_where_they_are_used(self: Any, x: str) -> Any:
    import textwrap
    from itertools import islice

    found = [self.a(x=textwrap.shorten(f"{x} {i}", 20)).y for i in islice(range(5), 2)]
    return dspy.Prediction(y=found)


@construct(2, 3)
def attributes_of_replies(self: Any, x: str) -> Any:
    first = self.a(x=x)
    first.y = first.y.strip()
    sections = []
    for i in range(2):
        section = self.ask(x=f"{x}{i}")
        section.title = f"{i}: {section.score}"
        if section.good:
            section.title = section.title.upper()
        sections.append(section)
    last = self.b(x="; ".join(section.title for section in sections))
    return dspy.Prediction(y=first.y, z=[section.title for section in sections], last=last.y)


@construct(1, 3)
def counters_on_self(self: Any, x: str) -> Any:
    self.asked = 0
    self.score = 0.0
    self.by_name = dict.fromkeys(("one", "two"), 0.0)
    self.replies = []
    for _ in range(3):
        self.asked += 1
        answer = self.ask(x=f"{x}{self.asked}")
        self.score += answer.score
        self.by_name["one" if answer.good else "two"] += answer.score
        self.replies.append(answer.score)
    return dspy.Prediction(y=self.replies, z=[self.asked, self.score, dict(self.by_name)])


@construct(1, 2)
def predictors_made_where_they_are_used(self: Any, x: str) -> Any:
    one = dspy.Predict("x -> z: float")(x=x).z
    judge = dspy.ChainOfThought("x, y -> z")
    other = judge(x=x, y="more").z
    return dspy.Prediction(y=one, z=other)


PRICES = {"clock": 49.0}


@loop_safe
def get_price(item: str) -> str:
    """Price of an item."""
    return f"{PRICES.get(item.lower(), 0):.2f} EUR"


@construct(2, 2)
def agents_with_harmless_tools(self: Any, x: str) -> Any:
    agent = dspy.ReAct("x -> z", tools=[get_price], max_iters=1)
    found = agent(x=x).z
    return dspy.Prediction(y=found, z=self.a(x=x).y)


class Refused(Exception):
    pass


@construct(2, 6)
def entries_that_are_made_by_a_method(self: Any, x: str) -> Any:
    """Nobody else has them: what is put into one changes nothing of the others."""

    def entry(word: str) -> dict[str, str]:
        found = self.ask(x=word)
        if found.score < -1:
            raise Refused(word)
        return {"word": word}

    entries = []
    for word in (x, "owl", "tea"):
        try:
            made = entry(word)
        except Refused:
            continue
        made["a"] = self.a(x=word).y
        entries.append(made)
    return dspy.Prediction(y=entries, z=[self.b(x=f"{word}").y for word in range(3)])


@construct(2, 3)
def attributes_that_a_reply_names(self: Any, x: str) -> Any:
    answers = []
    for word in (x, "owl", "tea"):
        route = self.route(x=word)
        asked = getattr(self, route.kind)
        answers.append(asked(x=word).y)
    return dspy.Prediction(y=answers)


@construct(1, 2)
def code_that_is_parsed(self: Any, x: str) -> Any:
    names = []
    for text in ("def f(): pass", "1 +"):
        try:
            tree = ast.parse(text)
        except SyntaxError as error:
            names.append(f"line {error.lineno}: {error.msg}")
            continue
        names += [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return dspy.Prediction(y=self.a(x=f"{names}").y, z=self.b(x=x).y)


class Mood(enum.Enum):
    """What a reply is."""

    GOOD = "good"
    BAD = ["bad", "worse"]


class Level(str, enum.Enum):
    LOW = "low"
    HIGH = "high"


class Graded(dspy.Signature):
    """Grade it."""

    x: str = dspy.InputField()
    level: Level = dspy.OutputField()


@construct(2, 7)
def names_and_values_of_enums(self: Any, x: str) -> Any:
    grade = dspy.Predict(Graded)
    found = [self.a(x=f"{each.name} {each.value}").y for each in Mood]
    graded = [self.b(x=grade(x=word).level.value).y for word in (x, "owl", "tea")]
    return dspy.Prediction(y=found, z=graded, w=[self.a(x=Level.HIGH.value).y, self.b(x=Mood["GOOD"].name).y])


@construct(2, 3)
def methods_that_paths_have_too(self: Any, x: str) -> Any:
    """`Path` is imported here, whose `replace()` moves a file."""
    found = []
    for word in (x, "owl", "tea"):
        text = self.a(x=word).y
        parts = [part.replace("-", "") for part in text.split("\n")]
        found.append(self.b(x=parts[0].replace("_", " ")).y)
    return dspy.Prediction(y=found, path=Path("a").name)


class Line(pydantic.BaseModel):
    text: str
    number: int = 1


@construct(2, 5)
def models_of_what_is_said(self: Any, x: str) -> Any:
    lines = [Line.model_validate({"text": self.a(x=f"{x}{i}").y, "number": f"{i}"}) for i in range(3)]
    for i in range(2):
        try:
            lines.append(Line.model_validate_json(f'{{"text": "{self.a(x=f"{i}").y}", "number": {i}.5}}'))
        except pydantic.ValidationError as error:
            lines.append(Line(text=f"{error.error_count()}"))
    return dspy.Prediction(y=[self.b(x=each.text).y for each in lines])


class Searcher:
    """Finds pages that share a word."""

    def __init__(self, pages: list[str]) -> None:
        self.pages = pages

    def __call__(self, query: str, k: int = 2) -> list[str]:
        return sorted(self.pages, key=lambda page: -len(set(page.split()) & set(query.split())))[:k]


@construct(2, 3)
def objects_that_are_called(self: Any, x: str) -> Any:
    search = Searcher(["owl", "tea and owls", "word"])
    found = [self.a(x=f"{search(word)}").y for word in (x, "owl", "tea")]
    return dspy.Prediction(y=[self.b(x=f"{search(each, k=1)}").y for each in found])


@construct(2, 5)
def progress_bars(self: Any, x: str) -> Any:
    found = [self.a(x=f"{i}").y for i in tqdm(range(2), desc=x, disable=True)]
    for n, word in enumerate(tqdm(["owl", "tea"], "words", disable=True)):
        found.append(self.a(x=f"{n} {word}").y)
    for each in track([*found[:1]], description=found[0], disable=True):
        found.append(self.b(x=each).y)
    grown = ["more"]
    for word in tqdm(grown, total=2, disable=True):
        if len(grown) < 2:
            grown.append("most")
            found.append(self.a(x=word).y)
    return dspy.Prediction(y=found)


@construct(1, 3)
def what_is_said_of_each_turn(self: Any, x: str) -> Any:
    found, notes = [], []
    for word in (x, "owl", "tea"):
        found.append(self.a(x=word).y)
        print(word, found[-1], file=sys.stderr)
        notes.append(len(datetime.now().strftime("%H:%M")))
    return dspy.Prediction(y=found, notes=notes)
