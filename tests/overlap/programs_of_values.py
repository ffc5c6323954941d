"""Programs with values that are not plain data: iterators, records, patterns."""

import collections
import copy
import dataclasses
import datetime
import itertools
import random

import dspy
import pydantic

from dspy_parallel import pure
from tests.overlap.stateful import LOG, Base, Programs

__all__ = ["program"]

program = Programs()

# Iterators


@program.stops("not used up where it is made")
def generator_with_break(self, x):
    found = (self.ask(x=f"{x}{i}") for i in range(5))
    for each in found:
        if each.score > -1:
            return dspy.Prediction(y=each.score)


@program
def loop_over_a_generator_with_break(self, x):
    for each in (self.ask(x=f"{x}{i}") for i in range(5)):
        if each.score > -1:
            return dspy.Prediction(y=each.score)


@program.stops("not used up where it is made")
def generator_that_nobody_uses(self, x):
    unused = (self.a(x=f"{x}{i}") for i in range(5))
    return dspy.Prediction(y=[self.b(x=x).y, self.b(x=x + "1").y])


@program.stops("not used up where it is made")
def names_that_a_generator_finds_later(self, x):
    before = "a"
    found = (self.a(x=before + str(i)).y for i in range(3))
    before = "b"
    return dspy.Prediction(y=list(found))


@program.stops("with what is made of it")
def generator_that_sees_the_list_grow(self, x):
    out = ["z"]
    for each in (self.a(x=f"{len(out)} {i}") for i in range(3)):
        out.append(each.y)
    out.extend(f"{len(out)}" for i in range(2))
    return dspy.Prediction(y=out)


@program
def islice_and_zip_take_what_they_need(self, x):
    some = list(itertools.islice((self.a(x=f"{x}{i}").y for i in range(6)), 2))
    pairs = [each for _, each in zip(range(2), (self.b(x=f"{x}{i}").y for i in range(6)))]
    return dspy.Prediction(y=some, z=pairs)


@program
def any_of_map_and_next_of_filter(self, x):
    is_any = any(map(lambda i: self.ask(x=f"{x}{i}").score > -1, range(5)))
    first = next(filter(lambda i: self.ask(x=f"b{i}").score > -1, range(5)), None)
    return dspy.Prediction(y=is_any, z=first)


@program.stops("not used up where it is made")
def zip_gone_over_twice(self, x):
    pairs = zip("ab", "cd")
    one = [self.a(x=p + q).y for p, q in pairs]
    two = [self.b(x=p + q).y for p, q in pairs]
    return dspy.Prediction(y=one, z=two)


@program.stops("not used up where it is made")
def iterators_in_a_list(self, x):
    rows = list(map(enumerate, ["ab", "cd"]))
    first = [self.a(x=f"{i}{each}").y for i, each in rows[0]]
    return dspy.Prediction(y=first, z=[self.a(x=f"{i}{each}").y for i, each in rows[0]])


@program.stops("going over a zip")
class IteratorOfTheModule(Base):
    def setup(self):
        self.pairs = zip("abcd", "efgh")

    def forward(self, x):
        found = []
        for p, q in self.pairs:
            found.append(self.a(x=p + q).y)
        return dspy.Prediction(y=found)


@program.stops("list_iterator")
class JoinedIteratorOfTheModule(Base):
    def setup(self):
        self.words = iter(["a", "b"])

    def forward(self, x):
        text = " ".join(self.words)
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])


@program.stops("not used up where it is made")
def views_see_what_is_changed(self, x):
    table = {"a": "1", "b": "2", "c": "3"}
    values = table.values()
    table.pop("a")
    return dspy.Prediction(y=[self.a(x=each).y for each in values])


@program.stops("not used up where it is made")
def views_are_no_lists(self, x):
    keys = {"a": 1}.keys()
    one = self.a(x="list").y if isinstance(keys, list) else self.b(x=f"view {keys}").y
    return dspy.Prediction(y=one, z=self.b(x="2").y)


@program
def views_used_up_at_once(self, x):
    table = {name: self.a(x=name).y for name in "pqr"}
    names = [name for name, text in sorted(table.items()) if "p" in table.keys()]
    return dspy.Prediction(y=names, z=self.b(x=f"{len(table.values())} {list(table)}").y)


@program
def list_that_shrinks_meanwhile(self, x):
    some, others, found = ["1", "2", "3", "4"], ["1", "2", "3", "4"], []
    popped = [self.a(x=some.pop()).y for _ in some]
    for i, each in enumerate(others):
        found.append(self.b(x=f"{i}{each}").y)
        others.pop()
    return dspy.Prediction(y=popped, z=found)


@program.stops("the order in a set")
class SetInAnotherOrder(Base):
    def setup(self):
        self.numbers = set(range(100))
        for i in range(100):
            if i not in (8, 64, 32, 5):
                self.numbers.discard(i)

    def forward(self, x):
        found = [self.a(x=f"{each}").y for each in sorted(self.numbers)[:1]]
        return dspy.Prediction(y=found, z=[self.b(x=f"{each}").y for each in list(self.numbers)[:2]])


# Records


class Item(pydantic.BaseModel):
    name: str
    tags: list[str]


class Find(dspy.Signature):
    x: str = dspy.InputField()
    best: Item = dspy.OutputField()
    found: list[Item] = dspy.OutputField()


@program
class ListInAModelThatACallReturned(Base):
    def setup(self):
        self.find, self.use = dspy.Predict(Find), dspy.Predict("item -> y")

    def forward(self, x):
        answer = self.find(x=x)
        before = self.use(item=answer.best).y
        answer.best.tags.append("extra")
        for each in answer.found:
            each.tags.append("seen")
        after = [self.use(item=each).y for each in (answer.best, *answer.found)]
        return dspy.Prediction(y=[before, *after], z=[answer.best.tags, *(each.tags for each in answer.found)])


@dataclasses.dataclass
class Page:
    tags: list


@pure
def page_of(query):
    return Page([query])


@program
def list_in_a_record_of_a_pure_function(self, x):
    page = page_of(self.a(x=x).y)
    page.tags.append("t")
    return dspy.Prediction(y=page.tags, z=self.b(x=f"{page}").y)


@dataclasses.dataclass
class State:
    topic: str
    notes: list = dataclasses.field(default_factory=list)


@program
class StateThatIsPassedWhole(Base):
    def setup(self):
        self.step = dspy.Predict("state -> y")

    def forward(self, x):
        state, found = State(topic=x), []
        for i in range(3):
            note = self.step(state=state).y
            state.notes.append(note)
            state.topic = f"{i}"
            found.append(f"{state}")
        return dspy.Prediction(y=found)


@program
class History(Base):
    def setup(self):
        self.chat = dspy.Predict("question, history: dspy.History -> answer")

    def forward(self, x):
        history, found = dspy.History(messages=[]), []
        for i in range(3):
            answer = self.chat(question=f"{x}{i}", history=history).answer
            history.messages.append({"question": f"{x}{i}", "answer": answer})
            found.append(answer)
        return dspy.Prediction(y=found)


class Notes(pydantic.BaseModel):
    notes: list[str] = []


@program
def model_written_out(self, x):
    state = Notes()
    for i in range(3):
        state.notes.append(self.a(x=f"{x}{state.model_dump_json()}").y)
    return dspy.Prediction(y=state.notes, z=self.b(x=f"{state}").y)


@dataclasses.dataclass
class Config:
    count: int = 0


@program
class RecordOfTheModule(Base):
    def setup(self):
        self.config = Config()

    def forward(self, x):
        before = f"{self.config}"
        self.config.count += 1
        return dspy.Prediction(y=[self.a(x=before).y, self.b(x=f"{self.config}").y])


class Document:
    def __init__(self, text):
        self.text = text

    def __str__(self):
        LOG.append("str")
        return self.text


@program.stops("operators of Document")
class ObjectWithATextOfItsOwn(Base):
    def setup(self):
        self.document, self.use = Document("old"), dspy.Predict("document -> y")

    def forward(self, x):
        first = self.use(document=self.document).y
        self.document.text = "new"
        return dspy.Prediction(y=[first, self.use(document=self.document).y])


@program
def copies(self, x):
    rows = [["1"], ["2"]]
    shallow, deep = copy.copy(rows), copy.deepcopy(rows)
    shallow[0].append("x")
    return dspy.Prediction(y=[self.a(x=f"{rows}").y, self.b(x=f"{deep}").y])


@program.stops("is not plain data")
def copied_predictor(self, x):
    twin = copy.deepcopy(self.a)
    return dspy.Prediction(y=[twin(x=x).y, twin(x=x + "2").y, self.b(x=x).y])


# Patterns, clocks


@program
def patterns(self, x):
    kept, found = "keep", []
    table = collections.defaultdict(list, k=["v"])
    for value in (collections.deque(["p", "q"]), table, ["one", "two"], "text", range(2)):
        match value:
            case [kept, "x"]:
                found.append("never")
            case [one, *rest]:
                found.append(self.a(x=f"{one} {rest} {kept}").y)
            case {"k": inner, **others}:
                found.append(self.a(x=f"{inner} {others} {kept}").y)
            case _:
                found.append(self.b(x=f"{kept}").y)
    return dspy.Prediction(y=found)


@program.stops("`Random.choice()` is known only when the program comes to it")
def clock_and_chance(self, x):
    year = datetime.datetime.now().strftime("%Y")
    chosen = random.choice([["1"], ["2"]]).copy()
    return dspy.Prediction(y=[self.a(x="1").y, self.b(x=f"{len(year)} {len(chosen)}").y])
