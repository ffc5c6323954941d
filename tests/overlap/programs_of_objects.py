"""Programs whose objects run code of the user's, or are the state of DSPy."""

import collections
import copy
import functools
import itertools
import json
import logging
import operator
import re
import typing
from typing import Annotated

import dspy
import pydantic

from dspy_parallel import pure
from tests.overlap.stateful import LOG, Base, Programs

__all__ = ["program"]

program = Programs()


def substitute(match):
    LOG.append(match.group())
    return "#"


@program.stops("is not plain data")
def substitute_that_has_effects(self, x):
    text = re.sub("o", substitute, x)
    return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])


def joined(one, other):
    LOG.append(one + other)
    return one + other


@program.stops("accumulate")
def accumulate_and_starmap(self, x):
    first = self.b(x=x).y
    texts = [*itertools.accumulate(["a", "b"], joined), *itertools.starmap(joined, [("c", "d")])]
    return dspy.Prediction(y=[self.a(x=each).y for each in texts])


def encoded(value):
    LOG.append("encoded")
    return "o"


@program.stops("is not plain data")
def json_of_an_object(self, x):
    text = json.dumps({"a": {1, 2}}, default=encoded)
    return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])


def made():
    LOG.append("made")
    return []


@program.stops("factory")
def factory_of_a_defaultdict(self, x):
    table = collections.defaultdict(made)
    table["k"].append("1")
    return dspy.Prediction(y=[self.a(x=f"{table['k']}").y, self.b(x=x).y])


NUMBERS = itertools.count()


class Note(pydantic.BaseModel):
    text: str
    number: int = pydantic.Field(default_factory=lambda: next(NUMBERS))


@program.stops("making a Note")
class FactoryOfAModelsField(Base):
    def setup(self):
        global NUMBERS
        NUMBERS = itertools.count()

    def forward(self, x):
        note = Note(text=x)
        return dspy.Prediction(y=[self.a(x=f"{note.number}").y, self.b(x=f"{note.number}").y])


class Stream:
    def __lshift__(self, other):
        LOG.append(other)
        return self


@program.stops("operators of Stream")
class Operators(Base):
    def setup(self):
        self.out = Stream()

    def forward(self, x):
        self.out << "start"
        return dspy.Prediction(y=[self.a(x=x).y, self.b(x=x).y])


class Thing:
    def __repr__(self):
        LOG.append("repr")
        return "thing"

    def __eq__(self, other):
        LOG.append("eq")
        return True


@program.stops("operators of Thing")
class OperatorsOfWhatIsInAList(Base):
    def setup(self):
        self.things, self.others = [Thing()], [Thing()]

    def forward(self, x):
        first = self.b(x="first").y
        text = f"{self.things == self.others} {[self.things]}"
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])


class Pair(typing.NamedTuple):
    one: str

    def __add__(self, other):
        LOG.append(other)
        return Pair(self.one + other)


@program.stops("operators of Pair")
def operators_of_a_named_tuple(self, x):
    first = self.b(x="first").y
    pair = Pair(x) + "!"
    return dspy.Prediction(y=[self.a(x=pair.one).y, self.b(x=x).y])


class Loud:
    def __str__(self):
        LOG.append("str")
        return "loud"


Loud.__module__ = "builtins"


@program.stops("operators of Loud")
class ClassThatSaysItIsBuiltin(Base):
    def setup(self):
        self.loud = Loud()

    def forward(self, x):
        text = f"{self.loud}"
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])


class Copied:
    def __deepcopy__(self, memo):
        LOG.append("copied")
        return self


@program.stops("is not plain data")
class ObjectThatCopiesItself(Base):
    def setup(self):
        self.things = [Copied()]

    def forward(self, x):
        first = self.b(x="first").y
        copied = copy.deepcopy(self.things)
        return dspy.Prediction(y=[self.a(x=f"{len(copied)}").y, self.b(x=x).y])


class Proxy:
    def __getattr__(self, name):
        LOG.append(name)
        raise AttributeError(name)

    def __call__(self, text):
        return text + "!"


@program
class ProxyOfATool(Base):
    def setup(self):
        self.proxy = Proxy()

    def forward(self, x):
        first = self.a(x=x).y
        return dspy.Prediction(y=[first, self.b(x=self.proxy(x)).y])


class Lazy:
    def __init__(self):
        self.text = "raw"

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        return value.upper() if name == "text" else value


@program.stops("attributes of Lazy")
class AttributesThatAreCode(Base):
    def setup(self):
        self.lazy = Lazy()

    def forward(self, x):
        first = self.b(x="first").y
        return dspy.Prediction(y=[self.a(x=self.lazy.text).y, self.b(x=self.lazy.text).y])


@program.stops("attributes of AttributesOfAModule")
class AttributesOfAModuleThatAreCode(Base):
    def setup(self):
        self.text = "raw"

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        return value.upper() if name == "text" else value

    def forward(self, x):
        first = self.b(x="first").y
        return dspy.Prediction(y=[self.a(x=self.text).y, self.b(x=self.text).y])


@program.stops("`__dict__`")
def dict_of_an_object(self, x):
    first = self.b(x="first").y
    self.__dict__["number"] = 7
    return dspy.Prediction(y=[self.a(x=f"{self.number}").y, self.b(x=x).y])


@program.stops("a descriptor")
class CachedMethod(Base):
    @functools.lru_cache(maxsize=None)
    def look(self, x):
        return self.a(x=x).y

    def forward(self, x):
        return dspy.Prediction(y=[self.look(x), self.look(x), self.look(x)])


class Asking:
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __get__(self, owner, cls):
        return functools.partial(self.function, owner, mark="?")


@program.stops("a descriptor")
class DecoratorThatIsAClass(Base):
    @Asking
    def look(self, x, mark="!"):
        return self.a(x=x + mark).y

    def forward(self, x):
        return dspy.Prediction(y=[self.look(x), self.b(x=x).y])


def counted(function):
    @functools.wraps(function)
    def call(*args):
        LOG.append(args)
        return function(*args)

    return call


@counted
@pure
def search(query):
    return query[::-1]


@program.stops(None)
def decorated_pure_function(self, x):
    return dspy.Prediction(y=[self.a(x=search(x)).y, self.b(x=search(x)).y], n=len(LOG))


class Printed:
    count = 0

    def __str__(self):
        self.count += 1
        return "thing"


@program.stops("operators of Printed")
class PrintedObject(Base):
    def setup(self):
        self.thing = Printed()

    def forward(self, x):
        first = self.b(x="first").y
        print(self.thing)
        return dspy.Prediction(y=[self.a(x=f"{self.thing.count}").y, self.b(x=x).y])


class Sink:
    def __init__(self):
        self.lines = []

    def write(self, text):
        self.lines.append(text)


@program.stops("something of your own")
class PrintedToAnObject(Base):
    def setup(self):
        self.sink = Sink()

    def forward(self, x):
        first = self.b(x="first").y
        print("hello", file=self.sink)
        return dspy.Prediction(y=[self.a(x="".join(self.sink.lines)).y, self.b(x=x).y])


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@program.stops("Logger.info")
class LogWithAHandlerOfItsOwn(Base):
    def setup(self):
        self.handler, self.log = Lines(), logging.Logger("a logger")
        self.log.addHandler(self.handler)

    def forward(self, x):
        first = self.b(x="first").y
        self.log.info("hello")
        return dspy.Prediction(y=[self.a(x="".join(self.handler.lines)).y, self.b(x=x).y])


class LinesLogger(logging.Logger):
    def __init__(self, name):
        super().__init__(name)
        self.lines = []

    def info(self, message):
        self.lines.append(message)


@program
class LoggerOfItsOwn(Base):
    def setup(self):
        self.log = LinesLogger("a logger")

    def forward(self, x):
        first = self.b(x="first").y
        self.log.info("hello")
        return dspy.Prediction(y=[self.a(x="".join(self.log.lines)).y, self.b(x=x).y])


@program.stops("setitem may have effects")
class ItemSetByAnOperator(Base):
    def setup(self):
        self.table = {"a": "old"}

    def forward(self, x):
        first = self.a(x=self.table["a"]).y
        operator.setitem(self.table, "a", "new")
        return dspy.Prediction(y=[first, self.b(x=self.table["a"]).y])


# State of predictors, LMs and settings


@program.stops("dspy.settings.trace")
def trace(self, x):
    first = self.a(x=x)
    dspy.settings.trace.append((self, {"x": x}, first))
    return dspy.Prediction(y=[first.y, self.b(x=f"{len(dspy.settings.trace)}").y])


@program.stops("`history`")
def history_of_the_lm(self, x):
    first = self.a(x=x)
    return dspy.Prediction(y=[first.y, self.b(x=f"{x}{len(dspy.settings.lm.history)}").y])


@program.stops("`history`")
def history_of_the_module(self, x):
    first = self.a(x=x)
    return dspy.Prediction(y=[first.y, self.b(x=f"{x}{len(self.history)}").y])


@program.stops("`demos`")
def demos(self, x):
    first = self.a(x=x)
    self.a.demos.append(dspy.Example(x=x, y=first.y))
    return dspy.Prediction(y=[first.y, self.a(x=x + "2").y])


@program.stops("`config`")
def options_of_a_predictor_and_of_the_lm(self, x):
    first = self.a(x=x)
    self.a.config["temperature"] = 0.7
    second = self.a(x=x + "2")
    dspy.settings.lm.kwargs["temperature"] = 0.9
    return dspy.Prediction(y=[first.y, second.y, self.b(x=x).y])


@program.stops("without a predictor")
def lm_without_a_predictor(self, x):
    first = self.a(x=x).y
    text = dspy.settings.lm(f"hello {x}")[0]
    return dspy.Prediction(y=[first, text, self.b(x="2").y])


PREDICT = dspy.Predict("x -> y")


@pure
def asked(x):
    try:
        return PREDICT(x=x).y
    except:  # noqa: E722
        return "caught"


@program.stops("@pure calls a predictor")
def pure_function_that_calls_a_predictor(self, x):
    return dspy.Prediction(y=[asked(x), asked(x + "2"), self.b(x=x).y])


@pure
def asked_lm(x):
    return dspy.settings.lm(x)[0]


@program.stops("@pure calls a predictor or an LM")
def pure_function_that_calls_an_lm(self, x):
    return dspy.Prediction(y=[asked_lm(x), asked_lm(x + "2"), self.b(x=x).y])


class TidyItem(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def tidied(cls, value):
        if len(value) > 1000:
            raise ValueError("too long")
        return value.strip().title()


class FindTidy(dspy.Signature):
    x: str = dspy.InputField()
    found: list[TidyItem] = dspy.OutputField()


@program
class ValidatorsWithoutEffects(Base):
    def setup(self):
        self.find = dspy.Predict(FindTidy)

    def forward(self, x):
        return dspy.Prediction(y=[[each.name for each in self.find(x=f"{x}{i}").found] for i in range(2)])


class NotedItem(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def noted(cls, value):
        LOG.append(value)
        return value


class FindNoted(dspy.Signature):
    x: str = dspy.InputField()
    found: list[NotedItem] | None = dspy.OutputField()


@program.stops("making a NotedItem from a reply may have effects")
class ValidatorsWithEffects(Base):
    def setup(self):
        self.find = dspy.Predict(FindNoted)

    def forward(self, x):
        first = self.find(x=x).found
        return dspy.Prediction(y=[first[0].name, self.a(x="1").y, self.b(x="2").y])


@program.stops("making a NotedItem may have effects")
def validator_with_effects_of_data(self, x):
    first = NotedItem.model_validate({"name": self.c(x=x).y})
    return dspy.Prediction(y=[first.name, self.a(x=f"{LOG}").y, self.b(x="2").y])


class Reader(pydantic.BaseModel):
    text: str

    @property
    def name(self):
        LOG.append("read")
        return self.text


class ReadItem(pydantic.BaseModel):
    name: str


@program.stops("is not understood")
def model_of_another_one(self, x):
    read = ReadItem.model_validate(Reader(text=self.c(x=x).y), from_attributes=True)
    return dspy.Prediction(y=[read.name, self.a(x=f"{LOG}").y, self.b(x="2").y])


class Numbered:
    def __init__(self):
        self.n = 0

    def __call__(self, text):
        self.n += 1
        return f"{self.n} {text}"


@program
class ObjectThatCountsItsCalls(Base):
    def setup(self):
        self.number = Numbered()

    def forward(self, x):
        found = [self.a(x=self.number(x)).y]
        if self.ask(x=x).score > -1:
            found.append(self.b(x=self.number("if")).y)
        return dspy.Prediction(y=[*found, self.c(x=self.number(x)).y, self.a(x=f"{self.number.n}").y])


class Noting:
    def __call__(self, text):
        LOG.append(text)
        return text


@program
class ObjectThatNotesItsCalls(Base):
    def setup(self):
        self.note = Noting()

    def forward(self, x):
        found = [self.note(self.a(x=f"{i}").y) for i in range(2)]
        return dspy.Prediction(y=[found, self.b(x=f"{LOG}").y])


class Chapter(pydantic.BaseModel):
    items: list[NotedItem] = []


@program.stops("making a Chapter may have effects")
def validator_of_a_field_with_effects(self, x):
    first = Chapter(items=[{"name": self.c(x=x).y}])
    return dspy.Prediction(y=[first.items[0].name, self.a(x=f"{LOG}").y, self.b(x="2").y])


def noted(value):
    LOG.append(value)
    return value


class Labelled(pydantic.BaseModel):
    names: list[Annotated[str, pydantic.AfterValidator(noted)]] | None = None
    label: Annotated[str, pydantic.AfterValidator(str.strip), pydantic.Field(max_length=99)] = ""


class FindLabelled(dspy.Signature):
    x: str = dspy.InputField()
    found: Labelled = dspy.OutputField()


@program.stops("making a AfterValidator from a reply may have effects")
class ValidatorInAnAnnotation(Base):
    def setup(self):
        self.find = dspy.Predict(FindLabelled)

    def forward(self, x):
        return dspy.Prediction(y=[self.find(x=f"{x}{i}").found.names for i in range(2)])


class Titled(pydantic.BaseModel):
    title: Annotated[str, pydantic.AfterValidator(str.title), pydantic.Field(max_length=99)]
    parts: list[Annotated[str, pydantic.StringConstraints(strip_whitespace=True)]] = pydantic.Field(max_length=99)


class FindTitled(dspy.Signature):
    x: str = dspy.InputField()
    found: Titled = dspy.OutputField()


@program
class AnnotationsWithoutEffects(Base):
    def setup(self):
        self.find = dspy.Predict(FindTitled)

    def forward(self, x):
        return dspy.Prediction(y=[self.find(x=f"{x}{i}").found.title for i in range(2)])


class Listener:
    def write(self, text):
        LOG.append(text)


@program.stops("it is told to something of your own")
class StreamOfItsOwn(Base):
    def setup(self):
        self.stream = Listener()

    def forward(self, x):
        if self.ask(x=x).score > -1:
            print(x, file=self.stream)
        return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x=x).y])
