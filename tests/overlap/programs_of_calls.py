"""Programs that call what is known only when they come to it, or that fail on the way and go on."""

import dspy
import pydantic

from tests.overlap.stateful import COUNTING, LOG, Base, Programs

__all__ = ["program"]

program = Programs()

# What is only known by its name


class Store:
    """Methods that are named as those of lists and dicts are."""

    def __init__(self):
        self.n = 0
        self.items = ["i"]

    def update(self, text):
        self.n += 1

    search = update

    def list(self):
        return self.items


class Note(pydantic.BaseModel):
    text: str = ""
    tags: list[str]

    def update(self, text):
        self.text += text

    def append(self, text):
        LOG.append(text)
        self.tags = [*self.tags, text]


class Make(dspy.Signature):
    x: str = dspy.InputField()
    note: Note = dspy.OutputField()


class Storing(Base):
    def setup(self):
        self.stores = [Store(), Store()]
        self.make = dspy.Predict(Make)


@program
class MethodNamedUpdate(Storing):
    def forward(self, x):
        for each in self.stores:
            if self.ask(x=x).score > -1:
                each.update("q")
        return dspy.Prediction(y=[self.a(x=f"{self.stores[0].n}").y, self.b(x=x).y])


@program
class MethodNamedSearch(Storing):
    def forward(self, x):
        for each in self.stores:
            text = self.a(x=x).y
            if len(text) > 2:
                each.search(text)
        return dspy.Prediction(y=[self.a(x=f"{self.stores[0].n}").y, self.b(x=x).y])


@program
class MethodNamedList(Storing):
    def forward(self, x):
        if self.ask(x=x).score > -1:
            got = self.stores[0].list()
            got.append("new")
        return dspy.Prediction(y=[self.a(x=f"{self.stores[0].items}").y, self.b(x=x).y])


@program
def method_named_update_of_a_model(self, x):
    note = Note(text=x, tags=[])
    if self.ask(x=x).score > -1:
        other = note
        other.update("q")
    return dspy.Prediction(y=[self.a(x=note.text).y, self.b(x=x).y])


@program
class MethodNamedAppendOfAnOutput(Storing):
    def forward(self, x):
        note = self.make(x=x).note
        if self.ask(x=x).score > -1:
            note.append("q")
        return dspy.Prediction(y=[self.a(x=f"{note.tags}").y, self.b(x=x).y])


def function_named_sorted():
    def sorted(text):
        return LOG

    @program
    def function_named_sorted(self, x):
        if self.ask(x=x).score > -1:
            got = sorted("ab")
            got.append("new")
        return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x=x).y])


function_named_sorted()


def wrap(f):
    def run(x):
        return f(x)

    return run


def counted(x):
    COUNTING.n += 1
    return x


quiet, loud = wrap(str.upper), wrap(counted)


@program
def closures_of_one_factory(self, x):
    one = self.a(x=x).y
    t = quiet(one)
    s = loud(one)
    return dspy.Prediction(y=[t, s, self.b(x=f"{COUNTING.n}").y, self.c(x="2").y])


# Names around a function


@program
def lambdas_of_a_loop(self, x):
    gs = []
    for k in range(3):
        gs.append(lambda: self.b(x=f"{k}").y)
    return dspy.Prediction(z=[g() for g in gs])


@program
def lambdas_of_a_comprehension(self, x):
    return dspy.Prediction(y=[f() for f in [lambda: self.a(x=f"{i}").y for i in range(3)]])


@program
def lambdas_in_a_table(self, x):
    mode = "quick"
    table = {"p": lambda t: self.a(x=mode + t).y, "q": lambda t: self.b(x=mode + t).y}
    found = []
    for key in "pq":
        if self.ask(x=key).score > -1:
            found.append(table[key](x))
    mode = "deep"
    return dspy.Prediction(z=found, w=self.c(x=mode).y)


@program
class LambdasGivenToAHelper(Base):
    def both(self, fns, t):
        return [fn(t) for fn in fns if self.ask(x=t).score > -1]

    def forward(self, x):
        mode = "quick"
        fns = [lambda t: self.a(x=mode + t).y, lambda t: self.b(x=mode + t).y]
        one = self.both(fns, "1")
        mode = "deep"
        return dspy.Prediction(y=one, z=self.both(fns, "2"))


@program
def function_of_a_branch(self, x):
    word = "before"
    f = lambda: self.a(x=word).y
    if self.ask(x=x).score > -1:
        f = lambda: self.b(x=word).y
    word = "after"
    return dspy.Prediction(y=f(), z=self.c(x="2").y)


@program
class FunctionKeptByAHelper(Base):
    def keep(self, f):
        return f

    def forward(self, x):
        word = "before"
        f = self.keep(lambda: self.b(x=word).y)
        word = "after"
        return dspy.Prediction(y=f(), z=self.c(x="2").y)


@program
def function_made_by_a_function(self, x):
    prefix = "p"

    def make(i):
        return lambda t: self.a(x=f"{prefix}{i}{t}").y

    fs = [make(1), make(2)]
    prefix = "q"
    return dspy.Prediction(y=[f("t") for f in fs])


@program
def lambda_with_defaults(self, x):
    fs = []
    for k in range(3):
        fs.append(lambda t, k=k: self.a(x=f"{k}{t}").y)
    return dspy.Prediction(y=[f("t") for f in fs])


@program
def key_of_a_table(self, x):
    sign = 1
    table = {"by": lambda each: sign * self.ask(x=each).score}
    xs = ["1", "2", "3"]
    best = sorted(xs, key=table["by"])
    sign = -1
    return dspy.Prediction(y=best, z=[self.a(x=each).y for each in sorted(xs, key=table["by"])])


@program
class ReplacedHandler(Base):
    def setup(self):
        self.handler = self.quiet

    def quiet(self, text):
        return text

    def loud(self, text):
        self.n += 1
        return text

    def go(self, text):
        return self.handler(text)

    def forward(self, x):
        one = self.a(x=x).y
        p = self.go(one)
        self.handler = self.loud
        q = self.go(one)
        return dspy.Prediction(y=[self.b(x=f"{self.n}").y, self.c(x="2").y])


@program
class HelpersThatCallEachOther(Base):
    def odd(self, n):
        if n and self.ask(x=f"{n}").score > -1:
            self.even(n - 1)
        return n

    def even(self, n):
        if n and self.ask(x=f"{n}").score > -1:
            self.odd(n - 1)
        LOG.append(n)
        return n

    def forward(self, x):
        self.odd(2)
        self.even(1)
        return dspy.Prediction(y=[self.b(x=f"{LOG}").y, self.c(x="2").y])


# Exceptions that are caught


@program
def caught_in_a_loop(self, x):
    out = []
    for i in range(5):
        try:
            out.append(int(self.a(x=f"{x}{i}").y))
        except ValueError:
            out.append(0)
    return dspy.Prediction(y=out)


@program
class CaughtInAHelper(Base):
    def number(self, x):
        try:
            return int(self.a(x=x).y)
        except ValueError:
            return 0

    def forward(self, x):
        return dspy.Prediction(y=[self.number(f"{i}") for i in range(3)], z=self.b(x="end").y)


@program
class CaughtAroundAHelper(Base):
    def check(self, text):
        if "z" not in text:
            raise ValueError("no z")

    def forward(self, x):
        out = []
        for i in range(3):
            try:
                text = self.a(x=f"{x}{i}").y
                self.check(text)
                out.append(text)
            except ValueError:
                out.append("bad")
        return dspy.Prediction(y=out, z=self.b(x="end").y)


@program
def caught_key_error(self, x):
    try:
        v = {"a": 1}[self.a(x=x).y]
    except KeyError:
        v = 0
    return dspy.Prediction(v=v, y=[self.b(x=f"{i}").y for i in range(4)])


@program
def caught_failure_of_an_lm(self, x):
    try:
        v = self.a(x="raise LMFailure").y
    except Exception:
        v = "none"
    return dspy.Prediction(v=v, y=[self.b(x=f"{i}").y for i in range(4)])


@program
def caught_assertion(self, x):
    out = []
    for i in range(4):
        try:
            r = self.ask(x=f"{x}{i}")
            assert r.score > 5
            out.append(r.score)
        except AssertionError:
            out.append(self.a(x=f"{i}").y)
    return dspy.Prediction(y=out)


@program
def caught_inside_of_another(self, x):
    try:
        try:
            n = int(self.a(x=x).y)
        except ValueError:
            n = 0
        m = self.b(x="between").y
        n += int("no")
        self.a(x="never")
    except ValueError:
        n = 1
    return dspy.Prediction(y=[n, m, self.c(x="2").y])


@program
def calls_before_what_fails(self, x):
    try:
        one, two = self.a(x="1").y, self.b(x="2").y
        n = int("no number")
    except ValueError:
        n = 0
    return dspy.Prediction(y=[n, one, two, self.c(x="3").y])


@program
def retried(self, x):
    for i in range(3):
        try:
            r = self.a(x=f"{x}{i}").y
            if len(r) < 100:
                raise ValueError("short")
            return dspy.Prediction(y=r)
        except ValueError:
            x += "!"
    return dspy.Prediction(y=self.b(x=x).y)


# Equal calls that are different requests


@program
def other_adapter(self, x):
    y = None
    with dspy.context(adapter=dspy.JSONAdapter()):
        if self.ask(x=x).score > -1:
            y = self.a(x="same").y
    with dspy.context(adapter=dspy.ChatAdapter()):
        z = self.a(x="same").y
    return dspy.Prediction(y=[y, z])


@program
def other_configuration(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x="same", config={"temperature": 0.5}).y
    return dspy.Prediction(y=[y, self.a(x="same", config={"temperature": 1.0}).y])


@program
def true_is_not_one(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x=1).y
    return dspy.Prediction(y=[y, self.a(x=True).y, self.a(x=1.0).y])


@program
def other_order(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x={"p": 1, "q": 2}).y
    return dspy.Prediction(y=[y, self.a(x={"q": 2, "p": 1}).y])


class Announced(dspy.Module):
    def __init__(self):
        super().__init__()
        self.p = dspy.Predict("x -> y")

    def __call__(self, *args, **kwargs):
        LOG.append("called")
        return super().__call__(*args, **kwargs)

    def forward(self, x):
        return self.p(x=x)


@program.stops("Announced has a `__call__` of its own")
class CallOfItsOwn(Base):
    def setup(self):
        self.inner = Announced()

    def forward(self, x):
        if self.ask(x=x).score > -1:
            self.inner(x=x)
        return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x=x).y])


@program.stops("its `forward` was replaced")
class ReplacedForward(Base):
    def setup(self):
        self.c = dspy.Predict("x -> y")
        self.c.forward = lambda x: LOG.append(x)

    def forward(self, x):
        if self.ask(x=x).score > -1:
            self.c(x=x)
        return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x=x).y])
