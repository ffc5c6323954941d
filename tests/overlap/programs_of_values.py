"""Programs with values that are not plain data: iterators, operators of their own, objects that others change.

Each is the body of a module, and a part of the reason for which the scout ends there; empty if it need not end,
None if that depends on who is first.
"""

from __future__ import annotations

__all__ = ["HEAD", "PROGRAMS"]

HEAD = """
import collections, copy, dataclasses, datetime, enum, functools, itertools, json, logging, operator, random, re, typing

import dspy
import pydantic

from dspy_parallel import pure

LOG = []


class Base(dspy.Module):
    def __init__(self):
        super().__init__()
        self.a = dspy.Predict("x -> y")
        self.b = dspy.Predict("x -> y")
        self.ask = dspy.Predict("x -> good: bool, score: float")
        self.listing = dspy.Predict("x -> parts: list[str]")
        self.state = []
        self.setup()

    def setup(self):
        pass
"""

_FORWARD = """
class Program(Base):
    def forward(self, x):
"""


def _body(text: str) -> str:
    return _FORWARD + "".join(f"        {line}\n" for line in text.strip().splitlines())


_ITERATOR = "not used up where it is made"

PROGRAMS: dict[str, tuple[str, str | None]] = {
    # Iterators
    "generator_with_break": (
        _body("""
found = (self.ask(x=f"{x}{i}") for i in range(5))
for each in found:
    if each.score > -1:
        return dspy.Prediction(y=each.score)
"""),
        _ITERATOR,
    ),
    "loop_over_a_generator_with_break": (
        _body("""
for each in (self.ask(x=f"{x}{i}") for i in range(5)):
    if each.score > -1:
        return dspy.Prediction(y=each.score)
"""),
        "",
    ),
    "generator_that_nobody_uses": (
        _body("""
unused = (self.a(x=f"{x}{i}") for i in range(5))
return dspy.Prediction(y=[self.b(x=x).y, self.b(x=x + "1").y])
"""),
        _ITERATOR,
    ),
    "names_that_a_generator_finds_later": (
        _body("""
before = "a"
found = (self.a(x=before + str(i)).y for i in range(3))
before = "b"
return dspy.Prediction(y=list(found))
"""),
        _ITERATOR,
    ),
    "generator_that_sees_the_list_grow": (
        _body("""
out = ["z"]
for each in (self.a(x=f"{len(out)} {i}") for i in range(3)):
    out.append(each.y)
out.extend(f"{len(out)}" for i in range(2))
return dspy.Prediction(y=out)
"""),
        "with what is made of it",
    ),
    "islice_and_zip_take_what_they_need": (
        _body("""
some = list(itertools.islice((self.a(x=f"{x}{i}").y for i in range(6)), 2))
pairs = [each for _, each in zip(range(2), (self.b(x=f"{x}{i}").y for i in range(6)))]
return dspy.Prediction(y=some, z=pairs)
"""),
        "",
    ),
    "any_of_map_and_next_of_filter": (
        _body("""
is_any = any(map(lambda i: self.ask(x=f"{x}{i}").score > -1, range(5)))
first = next(filter(lambda i: self.ask(x=f"b{i}").score > -1, range(5)), None)
return dspy.Prediction(y=is_any, z=first)
"""),
        "",
    ),
    "zip_gone_over_twice": (
        _body("""
pairs = zip("ab", "cd")
one = [self.a(x=p + q).y for p, q in pairs]
two = [self.b(x=p + q).y for p, q in pairs]
return dspy.Prediction(y=one, z=two)
"""),
        _ITERATOR,
    ),
    "iterators_in_a_list": (
        _body("""
rows = list(map(enumerate, ["ab", "cd"]))
first = [self.a(x=f"{i}{each}").y for i, each in rows[0]]
return dspy.Prediction(y=first, z=[self.a(x=f"{i}{each}").y for i, each in rows[0]])
"""),
        _ITERATOR,
    ),
    "iterator_of_the_module": (
        """
class Program(Base):
    def setup(self):
        self.pairs = zip("abcd", "efgh")

    def forward(self, x):
        found = []
        for p, q in self.pairs:
            found.append(self.a(x=p + q).y)
        return dspy.Prediction(y=found)
""",
        "going over a zip",
    ),
    "joined_iterator_of_the_module": (
        """
class Program(Base):
    def setup(self):
        self.words = iter(["a", "b"])

    def forward(self, x):
        text = " ".join(self.words)
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])
""",
        "list_iterator",
    ),
    "views_see_what_is_changed": (
        _body("""
table = {"a": "1", "b": "2", "c": "3"}
values = table.values()
table.pop("a")
return dspy.Prediction(y=[self.a(x=each).y for each in values])
"""),
        _ITERATOR,
    ),
    "views_are_no_lists": (
        _body("""
keys = {"a": 1}.keys()
one = self.a(x="list").y if isinstance(keys, list) else self.b(x=f"view {keys}").y
return dspy.Prediction(y=one, z=self.b(x="2").y)
"""),
        _ITERATOR,
    ),
    "views_used_up_at_once": (
        _body("""
table = {name: self.a(x=name).y for name in "pqr"}
names = [name for name, text in sorted(table.items()) if "p" in table.keys()]
return dspy.Prediction(y=names, z=self.b(x=f"{len(table.values())} {list(table)}").y)
"""),
        "",
    ),
    "list_that_shrinks_meanwhile": (
        _body("""
some, others, found = ["1", "2", "3", "4"], ["1", "2", "3", "4"], []
popped = [self.a(x=some.pop()).y for _ in some]
for i, each in enumerate(others):
    found.append(self.b(x=f"{i}{each}").y)
    others.pop()
return dspy.Prediction(y=popped, z=found)
"""),
        "",
    ),
    "set_in_another_order": (
        """
class Program(Base):
    def setup(self):
        self.numbers = set(range(100))
        for i in range(100):
            if i not in (8, 64, 32, 5):
                self.numbers.discard(i)

    def forward(self, x):
        found = [self.a(x=f"{each}").y for each in sorted(self.numbers)[:1]]
        return dspy.Prediction(y=found, z=[self.b(x=f"{each}").y for each in list(self.numbers)[:2]])
""",
        "the order in a set",
    ),
    # Code of the user's
    "substitute_that_has_effects": (
        """
def substitute(match):
    LOG.append(match.group())
    return "#"


class Program(Base):
    def forward(self, x):
        text = re.sub("o", substitute, x)
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])
""",
        "is not plain data",
    ),
    "accumulate_and_starmap": (
        """
def joined(one, other):
    LOG.append(one + other)
    return one + other


class Program(Base):
    def forward(self, x):
        first = self.b(x=x).y
        texts = [*itertools.accumulate(["a", "b"], joined), *itertools.starmap(joined, [("c", "d")])]
        return dspy.Prediction(y=[self.a(x=each).y for each in texts])
""",
        "accumulate",
    ),
    "json_of_an_object": (
        """
def encoded(value):
    LOG.append("encoded")
    return "o"


class Program(Base):
    def forward(self, x):
        text = json.dumps({"a": {1, 2}}, default=encoded)
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])
""",
        "is not plain data",
    ),
    "factory_of_a_defaultdict": (
        """
def made():
    LOG.append("made")
    return []


class Program(Base):
    def forward(self, x):
        table = collections.defaultdict(made)
        table["k"].append("1")
        return dspy.Prediction(y=[self.a(x=f"{table['k']}").y, self.b(x=x).y])
""",
        "factory",
    ),
    "factory_of_a_models_field": (
        """
NUMBERS = itertools.count()


class Note(pydantic.BaseModel):
    text: str
    number: int = pydantic.Field(default_factory=lambda: next(NUMBERS))


class Program(Base):
    def forward(self, x):
        note = Note(text=x)
        return dspy.Prediction(y=[self.a(x=f"{note.number}").y, self.b(x=f"{note.number}").y])
""",
        "making a Note",
    ),
    "operators": (
        """
class Stream:
    def __lshift__(self, other):
        LOG.append(other)
        return self


class Program(Base):
    def setup(self):
        self.out = Stream()

    def forward(self, x):
        self.out << "start"
        return dspy.Prediction(y=[self.a(x=x).y, self.b(x=x).y])
""",
        "operators of Stream",
    ),
    "operators_of_what_is_in_a_list": (
        """
class Thing:
    def __repr__(self):
        LOG.append("repr")
        return "thing"

    def __eq__(self, other):
        LOG.append("eq")
        return True


class Program(Base):
    def setup(self):
        self.things, self.others = [Thing()], [Thing()]

    def forward(self, x):
        first = self.b(x="first").y
        text = f"{self.things == self.others} {[self.things]}"
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])
""",
        "operators of Thing",
    ),
    "operators_of_a_named_tuple": (
        """
class Pair(typing.NamedTuple):
    one: str

    def __add__(self, other):
        LOG.append(other)
        return Pair(self.one + other)


class Program(Base):
    def forward(self, x):
        first = self.b(x="first").y
        pair = Pair(x) + "!"
        return dspy.Prediction(y=[self.a(x=pair.one).y, self.b(x=x).y])
""",
        "operators of Pair",
    ),
    "class_that_says_it_is_builtin": (
        """
class Loud:
    def __str__(self):
        LOG.append("str")
        return "loud"


Loud.__module__ = "builtins"


class Program(Base):
    def setup(self):
        self.loud = Loud()

    def forward(self, x):
        text = f"{self.loud}"
        return dspy.Prediction(y=[self.a(x=text).y, self.b(x=text).y])
""",
        "operators of Loud",
    ),
    "object_that_copies_itself": (
        """
class Thing:
    def __deepcopy__(self, memo):
        LOG.append("copied")
        return self


class Program(Base):
    def setup(self):
        self.things = [Thing()]

    def forward(self, x):
        first = self.b(x="first").y
        copied = copy.deepcopy(self.things)
        return dspy.Prediction(y=[self.a(x=f"{len(copied)}").y, self.b(x=x).y])
""",
        "is not plain data",
    ),
    "proxy": (
        """
class Proxy:
    def __getattr__(self, name):
        LOG.append(name)
        raise AttributeError(name)

    def __call__(self, text):
        return text + "!"


class Program(Base):
    def setup(self):
        self.proxy = Proxy()

    def forward(self, x):
        first = self.a(x=x).y
        return dspy.Prediction(y=[first, self.b(x=self.proxy(x)).y])
""",
        "Proxy may have effects",
    ),
    "attributes_that_are_code": (
        """
class Lazy:
    def __init__(self):
        self.text = "raw"

    def __getattribute__(self, name):
        value = object.__getattribute__(self, name)
        return value.upper() if name == "text" else value


class Program(Base):
    def setup(self):
        self.lazy = Lazy()

    def forward(self, x):
        first = self.b(x="first").y
        return dspy.Prediction(y=[self.a(x=self.lazy.text).y, self.b(x=self.lazy.text).y])
""",
        "attributes of Lazy",
    ),
    "attributes_of_a_module_that_are_code": (
        """
class Program(Base):
    def setup(self):
        self.text = "raw"

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        return value.upper() if name == "text" else value

    def forward(self, x):
        first = self.b(x="first").y
        return dspy.Prediction(y=[self.a(x=self.text).y, self.b(x=self.text).y])
""",
        "attributes of Program",
    ),
    "dict_of_an_object": (
        _body("""
first = self.b(x="first").y
self.__dict__["number"] = 7
return dspy.Prediction(y=[self.a(x=f"{self.number}").y, self.b(x=x).y])
"""),
        "`__dict__`",
    ),
    "cached_method": (
        """
class Program(Base):
    @functools.lru_cache(maxsize=None)
    def look(self, x):
        return self.a(x=x).y

    def forward(self, x):
        return dspy.Prediction(y=[self.look(x), self.look(x), self.look(x)])
""",
        "a descriptor",
    ),
    "decorator_that_is_a_class": (
        """
class Asking:
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __get__(self, owner, cls):
        return functools.partial(self.function, owner, mark="?")


class Program(Base):
    @Asking
    def look(self, x, mark="!"):
        return self.a(x=x + mark).y

    def forward(self, x):
        return dspy.Prediction(y=[self.look(x), self.b(x=x).y])
""",
        "a descriptor",
    ),
    "decorated_pure_function": (
        """
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


class Program(Base):
    def forward(self, x):
        return dspy.Prediction(y=[self.a(x=search(x)).y, self.b(x=search(x)).y], n=len(LOG))
""",
        None,
    ),
    "printed_object": (
        """
class Thing:
    count = 0

    def __str__(self):
        self.count += 1
        return "thing"


class Program(Base):
    def setup(self):
        self.thing = Thing()

    def forward(self, x):
        first = self.b(x="first").y
        print(self.thing)
        return dspy.Prediction(y=[self.a(x=f"{self.thing.count}").y, self.b(x=x).y])
""",
        "operators of Thing",
    ),
    "printed_to_an_object": (
        """
class Sink:
    def __init__(self):
        self.lines = []

    def write(self, text):
        self.lines.append(text)


class Program(Base):
    def setup(self):
        self.sink = Sink()

    def forward(self, x):
        first = self.b(x="first").y
        print("hello", file=self.sink)
        return dspy.Prediction(y=[self.a(x="".join(self.sink.lines)).y, self.b(x=x).y])
""",
        "something of your own",
    ),
    "log_with_a_handler_of_its_own": (
        """
class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


class Program(Base):
    def setup(self):
        self.handler, self.log = Lines(), logging.Logger("a logger")
        self.log.addHandler(self.handler)

    def forward(self, x):
        first = self.b(x="first").y
        self.log.info("hello")
        return dspy.Prediction(y=[self.a(x="".join(self.handler.lines)).y, self.b(x=x).y])
""",
        "Logger.info",
    ),
    "logger_of_its_own": (
        """
class Lines(logging.Logger):
    def __init__(self, name):
        super().__init__(name)
        self.lines = []

    def info(self, message):
        self.lines.append(message)


class Program(Base):
    def setup(self):
        self.log = Lines("a logger")

    def forward(self, x):
        first = self.b(x="first").y
        self.log.info("hello")
        return dspy.Prediction(y=[self.a(x="".join(self.log.lines)).y, self.b(x=x).y])
""",
        "",
    ),
    "item_set_by_an_operator": (
        """
class Program(Base):
    def setup(self):
        self.table = {"a": "old"}

    def forward(self, x):
        first = self.a(x=self.table["a"]).y
        operator.setitem(self.table, "a", "new")
        return dspy.Prediction(y=[first, self.b(x=self.table["a"]).y])
""",
        "setitem may have effects",
    ),
    # Records
    "list_in_a_model_that_a_call_returned": (
        """
class Item(pydantic.BaseModel):
    name: str
    tags: list[str]


class Find(dspy.Signature):
    x: str = dspy.InputField()
    best: Item = dspy.OutputField()
    found: list[Item] = dspy.OutputField()


class Program(Base):
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
""",
        "",
    ),
    "list_in_a_record_of_a_pure_function": (
        """
@dataclasses.dataclass
class Page:
    tags: list


@pure
def search(query):
    return Page([query])


class Program(Base):
    def forward(self, x):
        page = search(self.a(x=x).y)
        page.tags.append("t")
        return dspy.Prediction(y=page.tags, z=self.b(x=f"{page}").y)
""",
        "",
    ),
    "state_that_is_passed_whole": (
        """
@dataclasses.dataclass
class State:
    topic: str
    notes: list = dataclasses.field(default_factory=list)


class Program(Base):
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
""",
        "",
    ),
    "history": (
        """
class Program(Base):
    def setup(self):
        self.chat = dspy.Predict("question, history: dspy.History -> answer")

    def forward(self, x):
        history, found = dspy.History(messages=[]), []
        for i in range(3):
            answer = self.chat(question=f"{x}{i}", history=history).answer
            history.messages.append({"question": f"{x}{i}", "answer": answer})
            found.append(answer)
        return dspy.Prediction(y=found)
""",
        "",
    ),
    "model_written_out": (
        """
class State(pydantic.BaseModel):
    notes: list[str] = []


class Program(Base):
    def forward(self, x):
        state = State()
        for i in range(3):
            state.notes.append(self.a(x=f"{x}{state.model_dump_json()}").y)
        return dspy.Prediction(y=state.notes, z=self.b(x=f"{state}").y)
""",
        "",
    ),
    "record_of_the_module": (
        """
@dataclasses.dataclass
class Config:
    count: int = 0


class Program(Base):
    def setup(self):
        self.config = Config()

    def forward(self, x):
        before = f"{self.config}"
        self.config.count += 1
        return dspy.Prediction(y=[self.a(x=before).y, self.b(x=f"{self.config}").y])
""",
        "",
    ),
    "object_with_a_text_of_its_own": (
        """
class Document:
    def __init__(self, text):
        self.text = text

    def __str__(self):
        LOG.append("str")
        return self.text


class Program(Base):
    def setup(self):
        self.document, self.use = Document("old"), dspy.Predict("document -> y")

    def forward(self, x):
        first = self.use(document=self.document).y
        self.document.text = "new"
        return dspy.Prediction(y=[first, self.use(document=self.document).y])
""",
        "operators of Document",
    ),
    "copies": (
        _body("""
rows = [["1"], ["2"]]
shallow, deep = copy.copy(rows), copy.deepcopy(rows)
shallow[0].append("x")
return dspy.Prediction(y=[self.a(x=f"{rows}").y, self.b(x=f"{deep}").y])
"""),
        "",
    ),
    "copied_predictor": (
        _body("""
twin = copy.deepcopy(self.a)
return dspy.Prediction(y=[twin(x=x).y, twin(x=x + "2").y, self.b(x=x).y])
"""),
        "is not plain data",
    ),
    # State of predictors, LMs and settings
    "trace": (
        _body("""
first = self.a(x=x)
dspy.settings.trace.append((self, {"x": x}, first))
return dspy.Prediction(y=[first.y, self.b(x=f"{len(dspy.settings.trace)}").y])
"""),
        "dspy.settings.trace",
    ),
    "history_of_the_lm": (
        _body("""
first = self.a(x=x)
return dspy.Prediction(y=[first.y, self.b(x=f"{x}{len(dspy.settings.lm.history)}").y])
"""),
        "`history`",
    ),
    "history_of_the_module": (
        _body("""
first = self.a(x=x)
return dspy.Prediction(y=[first.y, self.b(x=f"{x}{len(self.history)}").y])
"""),
        "`history`",
    ),
    "demos": (
        _body("""
first = self.a(x=x)
self.a.demos.append(dspy.Example(x=x, y=first.y))
return dspy.Prediction(y=[first.y, self.a(x=x + "2").y])
"""),
        "`demos`",
    ),
    "options_of_a_predictor_and_of_the_lm": (
        _body("""
first = self.a(x=x)
self.a.config["temperature"] = 0.7
second = self.a(x=x + "2")
dspy.settings.lm.kwargs["temperature"] = 0.9
return dspy.Prediction(y=[first.y, second.y, self.b(x=x).y])
"""),
        "`config`",
    ),
    "lm_without_a_predictor": (
        _body("""
first = self.a(x=x).y
text = dspy.settings.lm(f"hello {x}")[0]
return dspy.Prediction(y=[first, text, self.b(x="2").y])
"""),
        "without a predictor",
    ),
    "pure_function_that_calls_a_predictor": (
        """
PREDICT = dspy.Predict("x -> y")


@pure
def asked(x):
    try:
        return PREDICT(x=x).y
    except:  # noqa: E722
        return "caught"


class Program(Base):
    def forward(self, x):
        return dspy.Prediction(y=[asked(x), asked(x + "2"), self.b(x=x).y])
""",
        "@pure calls a predictor",
    ),
    "pure_function_that_calls_an_lm": (
        """
@pure
def asked(x):
    return dspy.settings.lm(x)[0]


class Program(Base):
    def forward(self, x):
        return dspy.Prediction(y=[asked(x), asked(x + "2"), self.b(x=x).y])
""",
        "@pure calls a predictor or an LM",
    ),
    "validators_without_effects": (
        """
class Item(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def tidied(cls, value):
        if len(value) > 1000:
            raise ValueError("too long")
        return value.strip().title()


class Find(dspy.Signature):
    x: str = dspy.InputField()
    found: list[Item] = dspy.OutputField()


class Program(Base):
    def setup(self):
        self.find = dspy.Predict(Find)

    def forward(self, x):
        return dspy.Prediction(y=[[each.name for each in self.find(x=f"{x}{i}").found] for i in range(2)])
""",
        "",
    ),
    "validators_with_effects": (
        """
class Item(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def noted(cls, value):
        LOG.append(value)
        return value


class Find(dspy.Signature):
    x: str = dspy.InputField()
    found: list[Item] | None = dspy.OutputField()


class Program(Base):
    def setup(self):
        self.find = dspy.Predict(Find)

    def forward(self, x):
        first = self.find(x=x).found
        return dspy.Prediction(y=[first[0].name, self.a(x="1").y, self.b(x="2").y])
""",
        "making a Item from a reply may have effects",
    ),
    # Patterns
    "patterns": (
        _body("""
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
"""),
        "",
    ),
    "clock_and_chance": (
        _body("""
year = datetime.datetime.now().strftime("%Y")
chosen = random.choice([["1"], ["2"]]).copy()
return dspy.Prediction(y=[self.a(x="1").y, self.b(x=f"{len(year)} {len(chosen)}").y])
"""),
        "`Random.choice()` is known only when the program comes to it",
    ),
}
