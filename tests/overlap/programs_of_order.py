"""Programs whose branches wait for an LM, while what follows changes or reads what they use.

Each is the body of a module. Most of them ask first (`self.ask`), and do something in the branch that is not decided
yet: the scout goes on meanwhile, and must not see, or let be seen, what is not there yet.
"""

from __future__ import annotations

__all__ = ["HEAD", "PROGRAMS"]

HEAD = """
import collections, copy, dataclasses, functools, itertools, operator, re, time

import dspy
import pydantic

LOG = []
COUNTER = {"n": 0}


class Counting:
    n = 0


COUNTING = Counting()


def add(items):
    items.append("x")


def log():
    LOG.append("x")


class Base(dspy.Module):
    def __init__(self):
        super().__init__()
        self.a = dspy.Predict("x -> y")
        self.b = dspy.Predict("x -> y")
        self.c = dspy.ChainOfThought("x -> y")
        self.ask = dspy.Predict("x -> good: bool, score: float")
        self.listing = dspy.Predict("x -> parts: list[str]")
        self.state = []
        self.memory = {"k": "old", "list": []}
        self.n = 0
        self.setup()

    def setup(self):
        pass
"""


def _forward(text: str, before: str = "") -> str:
    body = "".join(f"        {line}\n" for line in text.strip("\n").splitlines())
    return f"{before}\nclass Program(Base):\n    def forward(self, x):\n{body}"


def _method(text: str, forward: str, before: str = "") -> str:
    lines = "".join(f"    {line}\n" for line in text.strip("\n").splitlines())
    return _forward(forward, before).replace("class Program(Base):\n", f"class Program(Base):\n{lines}")


_READS = """
y = None
if self.ask(x=x).score > -1:
    y = self.a(x={read}).y
{change}
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""

_WRITES = """
if self.ask(x=x).score > -1:
    {change}
return dspy.Prediction(y=[self.a(x={read}).y, self.b(x="2").y])
"""


def _read(read: str, change: str, before: str = "") -> str:
    """It is read in a branch that waits, and changed after it."""
    return _forward(_READS.format(read=read, change=change), before)


def _written(change: str, read: str, before: str = "") -> str:
    """It is changed in a branch that waits, and read after it."""
    return _forward(_WRITES.format(read=read, change=change), before)


_LISTS = """
LONG = list(range(2000))


class Lists:
    kept = []


def grow(items):
    items.append("x")
    return len(items)

"""

_GROWS = """
n = grow(LOG)
time.sleep(0.01)
return dspy.Prediction(y=[self.b(x=f"{n}").y, self.c(x="2").y])
"""

PROGRAMS: dict[str, str] = {
    # Read in a branch, changed after it
    "list_of_self": _read('f"{len(self.state)}"', 'self.state.append("x")'),
    "list_of_self_extended": _read('f"{self.state}"', 'self.state += ["x"]'),
    "item_of_self": _read('self.memory["k"]', 'self.memory["k"] = "new"'),
    "list_in_dict_of_self": _read('f"{self.memory}"', 'self.memory["list"].append("x")'),
    "alias_of_self": _read('f"{self.memory}"', 'items = self.memory["list"]\nitems.append("x")'),
    "attribute_of_self": _read('f"{self.n}"', "self.n += 1"),
    "predictors_of_self": _read("f'{[type(p).__name__ for p in self.ps]}'", "self.ps.reverse()").replace(
        "class Program(Base):\n", "class Program(Base):\n    def setup(self): self.ps = [self.a, self.c]\n"
    ),
    "global_list": _read('f"{len(LOG)}"', 'LOG.append("x")'),
    "global_by_a_helper": _read('f"{LOG}"', "log()"),
    "global_by_a_helper_of_a_parameter": _read('f"{LOG}"', "add(LOG)"),
    "self_by_a_helper_of_a_parameter": _read('f"{self.state}"', "add(self.state)"),
    "global_by_operator": _read('f"{COUNTER}"', 'operator.setitem(COUNTER, "n", 7)'),
    "global_object": _read('f"{COUNTING.n}"', "COUNTING.n += 1"),
    "bound_method": _read('f"{self.state}"', 'push = self.state.append\npush("x")'),
    "shared_by_partial": _forward("""
items = ["i"]
later = functools.partial(lambda found, t: self.a(x=f"{found}{t}").y, items)
y = None
if self.ask(x=x).score > -1:
    y = later("1")
items.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "put_into_self_and_changed": _forward("""
fresh = ["f"]
self.state.append(fresh)
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=f"{self.state}").y
fresh.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "set_on_self_and_changed": _forward("""
self.box = fresh = ["f"]
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=f"{self.box}").y
fresh.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "pending_set_on_self_and_changed": _forward("""
parts = self.listing(x=x).parts
self.box = parts
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=f"{self.box}").y
parts.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "item_of_self_set_and_changed": _forward("""
self.memory["list"] = fresh = ["f"]
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=f"{self.memory}").y
fresh.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "helper_reads_self": _method(
        """
def look(self, x):
    if self.ask(x=x).score > -1:
        return self.a(x=" ".join(self.state)).y
    return ""
""",
        """
one = self.look(x)
self.state.append("new")
return dspy.Prediction(y=[one, self.look(x + "2")])
""",
    ),
    "closure": """
def make():
    box = []

    class Program(Base):
        def peek(self):
            return f"{len(box)}"

        def forward(self, x):
            y = None
            if self.ask(x=x).score > -1:
                y = self.a(x=self.peek()).y
            box.append("x")
            return dspy.Prediction(y=y, z=self.b(x="2").y)

    return Program


Program = make()
""",
    "memory_in_a_loop": _forward("""
out = []
for i in range(3):
    r = self.ask(x=f"{x}{i}")
    if r.score > -1:
        out.append(self.a(x=f"{i} {len(self.state)}").y)
    self.state.append(str(i))
return dspy.Prediction(y=out)
"""),
    "answers_in_memory": _forward("""
for i in range(3):
    answer = self.a(x=f"{x}{i} {self.state}").y
    if self.ask(x=answer).score > -1:
        self.state.append(answer)
return dspy.Prediction(y=list(self.state))
"""),
    "class_attribute": _read('f"{Program.seen}"', 'self.seen.append("x")').replace(
        "class Program(Base):\n", "class Program(Base):\n    seen = []\n"
    ),
    "property": _method(
        """
@property
def known(self):
    return f"{len(self.state)}"
""",
        _READS.format(read="self.known", change='self.state.append("x")'),
    ),
    "conditional_expression": _forward("""
y = self.a(x=f"{self.state}").y if self.ask(x=x).score > -1 else ""
self.state.append("x")
return dspy.Prediction(y=y, z=self.b(x="2").y)
"""),
    "condition_of_a_comprehension": _forward("""
ys = [self.a(x=f"{i}{self.state}").y for i in range(2) if self.ask(x=f"{i}").score > -1]
self.state.append("x")
return dspy.Prediction(y=ys, z=self.b(x="2").y)
"""),
    "sorted_by_what_is_outside": _forward("""
xs = sorted(["1", "2"], key=lambda each: (self.ask(x=each).score, self.a(x=f"{each}{self.state}").y))
self.state.append("x")
return dspy.Prediction(y=xs, z=self.b(x="2").y)
"""),
    # Changed in a branch, read after it
    "writes_global": _written('LOG.append("x")', 'f"{LOG}"'),
    "writes_global_item": _written('COUNTER["n"] += 1', 'f"{COUNTER}"'),
    "writes_global_by_a_helper": _written("log()", 'f"{LOG}"'),
    "writes_self": _written('self.state.append("x")', 'f"{self.state}"'),
    "writes_self_by_a_helper": _written("add(self.state)", 'f"{self.state}"'),
    "writes_self_by_a_bound_method": _written('push = self.state.append; push("x")', 'f"{self.state}"'),
    "writes_by_a_bound_method_of_before": _forward("""
out = []
push = out.append
if self.ask(x=x).score > -1:
    push("x")
return dspy.Prediction(y=[self.a(x=f"{out}").y, self.b(x="2").y])
"""),
    "writes_what_an_expression_gives": _forward("""
first, second = [], []
if self.ask(x=x).score > -1:
    (first or second).append("x")
return dspy.Prediction(y=[self.a(x=f"{first}{second}").y, self.b(x="2").y])
"""),
    "writes_what_a_helper_gives": _method(
        "def items(self): return self.state",
        """
if self.ask(x=x).score > -1:
    self.items().append("x")
return dspy.Prediction(y=[self.a(x=f"{self.state}").y, self.b(x="2").y])
""",
    ),
    "writes_what_is_in_a_new_list": _forward("""
shared = ["s"]
if self.ask(x=x).score > -1:
    box = [shared]
    box[0].append("x")
return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])
"""),
    "writes_what_a_loop_goes_over": _written("for each in self.memory.values(): add(self.state)", 'f"{self.state}"'),
    "writes_lists_of_self_in_a_loop": _written('for each in self.lists: each.append("x")', 'f"{self.lists}"').replace(
        "class Program(Base):\n", "class Program(Base):\n    def setup(self): self.lists = [[], []]\n"
    ),
    "extends_another_name": _forward("""
shared = ["s"]
if self.ask(x=x).score > -1:
    out = shared
    out += ["x"]
return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])
"""),
    "alias_of_self_written": _forward("""
items = self.state
if self.ask(x=x).score > -1:
    items.append("x")
return dspy.Prediction(y=[self.a(x=f"{self.state}").y, self.b(x="2").y])
"""),
    "item_of_self_written": _forward("""
items = self.memory["list"]
if self.ask(x=x).score > -1:
    items.append("x")
return dspy.Prediction(y=[self.a(x=f"{self.memory}").y, self.b(x="2").y])
"""),
    "made_on_one_side_only": _forward("""
shared = ["s"]
out = shared
if self.ask(x=x).score > -1:
    if not x:
        out = []
    out.append("x")
return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])
"""),
    "comprehension_that_changes_a_part_of_a_reply": _forward("""
words = self.a(x=x).y.split()[:3]
found = [words.append(each) or each for each in [self.b(x="t").y, self.b(x="u").y] if each not in words]
return dspy.Prediction(y=[words, found], z=self.listing(x=f"{words}").parts)
"""),
    "made_after_its_use": _forward("""
out = shared = ["s"]
for i in range(2):
    if self.ask(x=f"{x}{i}").score > -1:
        out.append("x")
        out = []
return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])
"""),
    "sorted_with_effects": _forward(
        """
xs = sorted(["2", "1"], key=self.weight)
return dspy.Prediction(y=[self.a(x=f"{xs}{self.state}").y, self.b(x="2").y])
""",
        """
class Base(Base):
    def weight(self, each):
        score = self.ask(x=each).score
        if score > -1:
            self.state.append(each)
        return score

""",
    ),
    "sorted_with_counting": _forward(
        """
xs = sorted(["2", "1"], key=self.weight)
return dspy.Prediction(y=[self.a(x=f"{self.n}").y, self.b(x="2").y])
""",
        """
class Base(Base):
    def weight(self, each):
        score = self.ask(x=each).score
        self.n += 1
        return score

""",
    ),
    "mapped_with_effects": _forward(
        """
xs = list(map(self.weight, ["2", "1"]))
return dspy.Prediction(y=[self.a(x=f"{self.state}").y, self.b(x="2").y], n=len(xs))
""",
        """
class Base(Base):
    def weight(self, each):
        if self.ask(x=each).score > -1:
            self.state.append(each)
        return each

""",
    ),
    # What is only known by its name
    "method_named_update": _forward(
        """
for each in self.stores:
    if self.ask(x=x).score > -1:
        each.update("q")
return dspy.Prediction(y=[self.a(x=f"{self.stores[0].n}").y, self.b(x=x).y])
""",
        """
class Store:
    n = 0

    def update(self, text):
        self.n += 1


class Base(Base):
    def setup(self): self.stores = [Store()]

""",
    ),
    "method_named_search": _forward(
        """
for each in self.stores:
    text = self.a(x=x).y
    if len(text) > 2:
        each.search(text)
return dspy.Prediction(y=[self.a(x=f"{self.stores[0].n}").y, self.b(x=x).y])
""",
        """
class Store:
    n = 0

    def search(self, text):
        self.n += 1


class Base(Base):
    def setup(self): self.stores = [Store(), Store()]

""",
    ),
    "method_named_update_of_a_model": _forward(
        """
note = Note(text=x)
if self.ask(x=x).score > -1:
    other = note
    other.update("q")
return dspy.Prediction(y=[self.a(x=note.text).y, self.b(x=x).y])
""",
        """
class Note(pydantic.BaseModel):
    text: str

    def update(self, text):
        self.text += text

""",
    ),
    "method_named_append_of_an_output": _forward(
        """
note = self.make(x=x).note
if self.ask(x=x).score > -1:
    note.append("q")
return dspy.Prediction(y=[self.a(x=f"{note.tags}").y, self.b(x=x).y])
""",
        """
class Note(pydantic.BaseModel):
    tags: list[str]

    def append(self, text):
        LOG.append(text)
        self.tags = [*self.tags, text]


class Make(dspy.Signature):
    x: str = dspy.InputField()
    note: Note = dspy.OutputField()


class Base(Base):
    def setup(self): self.make = dspy.Predict(Make)

""",
    ),
    "method_named_list": _forward(
        """
if self.ask(x=x).score > -1:
    got = self.store.list()
    got.append("new")
return dspy.Prediction(y=[self.a(x=f"{self.store.items}").y, self.b(x=x).y])
""",
        """
class Store:
    def __init__(self): self.items = ["i"]

    def list(self): return self.items


class Base(Base):
    def setup(self): self.store = Store()

""",
    ),
    "function_named_sorted": _forward(
        """
if self.ask(x=x).score > -1:
    got = sorted("ab")
    got.append("new")
return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x=x).y])
""",
        """
def sorted(text):
    return LOG

""",
    ),
    "closures_of_one_factory": _forward(
        """
one = self.a(x=x).y
t = quiet(one)
s = loud(one)
return dspy.Prediction(y=[t, s, self.b(x=f"{COUNTING.n}").y, self.c(x="2").y])
""",
        """
def wrap(f):
    def run(x): return f(x)
    return run


def counted(x):
    COUNTING.n += 1
    return x


quiet, loud = wrap(str.upper), wrap(counted)

""",
    ),
    "replaced_handler": _method(
        """
def setup(self): self.handler = self.quiet
def quiet(self, text): return text
def loud(self, text):
    self.n += 1
    return text
def go(self, text): return self.handler(text)
""",
        """
one = self.a(x=x).y
p = self.go(one)
self.handler = self.loud
q = self.go(one)
return dspy.Prediction(y=[self.b(x=f"{self.n}").y, self.c(x="2").y])
""",
    ),
    "helpers_that_call_each_other": _method(
        """
def odd(self, n):
    if n and self.ask(x=f"{n}").score > -1:
        self.even(n - 1)
    return n
def even(self, n):
    if n and self.ask(x=f"{n}").score > -1:
        self.odd(n - 1)
    LOG.append(n)
    return n
""",
        """
self.odd(2)
self.even(1)
return dspy.Prediction(y=[self.b(x=f"{LOG}").y, self.c(x="2").y])
""",
    ),
    # Names around a function
    "lambdas_of_a_loop": _forward("""
gs = []
for k in range(3):
    gs.append(lambda: self.b(x=f"{k}").y)
return dspy.Prediction(z=[g() for g in gs])
"""),
    "lambdas_of_a_comprehension": _forward("""
return dspy.Prediction(y=[f() for f in [lambda: self.a(x=f"{i}").y for i in range(3)]])
"""),
    "lambda_in_a_list": _forward("""
prefix = "a"
fns = [lambda t: self.a(x=prefix + t).y]
r = None
if self.ask(x=x).score > -1:
    r = fns[0]("1")
prefix = "b"
return dspy.Prediction(y=r, z=self.b(x=prefix).y)
"""),
    "lambdas_in_a_table": _forward("""
mode = "quick"
table = {"p": lambda t: self.a(x=mode + t).y, "q": lambda t: self.b(x=mode + t).y}
found = []
for key in "pq":
    if self.ask(x=key).score > -1:
        found.append(table[key](x))
mode = "deep"
return dspy.Prediction(z=found, w=self.c(x=mode).y)
"""),
    "lambdas_given_to_a_helper": _method(
        """
def both(self, fns, t):
    return [fn(t) for fn in fns if self.ask(x=t).score > -1]
""",
        """
mode = "quick"
fns = [lambda t: self.a(x=mode + t).y, lambda t: self.b(x=mode + t).y]
one = self.both(fns, "1")
mode = "deep"
return dspy.Prediction(y=one, z=self.both(fns, "2"))
""",
    ),
    "function_of_a_branch": _forward("""
word = "before"
f = lambda: self.a(x=word).y
if self.ask(x=x).score > -1:
    f = lambda: self.b(x=word).y
word = "after"
return dspy.Prediction(y=f(), z=self.c(x="2").y)
"""),
    "function_kept_by_a_helper": _method(
        """
def keep(self, f):
    return f
""",
        """
word = "before"
f = self.keep(lambda: self.b(x=word).y)
word = "after"
return dspy.Prediction(y=f(), z=self.c(x="2").y)
""",
    ),
    "function_made_by_a_function": _forward("""
prefix = "p"
def make(i):
    return lambda t: self.a(x=f"{prefix}{i}{t}").y
fs = [make(1), make(2)]
prefix = "q"
return dspy.Prediction(y=[f("t") for f in fs])
"""),
    "lambda_with_defaults": _forward("""
fs = []
for k in range(3):
    fs.append(lambda t, k=k: self.a(x=f"{k}{t}").y)
return dspy.Prediction(y=[f("t") for f in fs])
"""),
    "key_of_a_table": _forward("""
sign = 1
table = {"by": lambda each: sign * self.ask(x=each).score}
xs = ["1", "2", "3"]
best = sorted(xs, key=table["by"])
sign = -1
return dspy.Prediction(y=best, z=[self.a(x=each).y for each in sorted(xs, key=table["by"])])
"""),
    # Exceptions that are caught
    "caught_value_error": _forward("""
try:
    n = int(self.a(x=x).y)
except ValueError:
    n = 0
return dspy.Prediction(y=[n, self.b(x="always").y, self.c(x="2").y])
"""),
    "caught_in_a_loop": _forward("""
out = []
for i in range(5):
    try:
        out.append(int(self.a(x=f"{x}{i}").y))
    except ValueError:
        out.append(0)
return dspy.Prediction(y=out)
"""),
    "caught_in_a_helper": _method(
        """
def number(self, x):
    try:
        return int(self.a(x=x).y)
    except ValueError:
        return 0
""",
        """
return dspy.Prediction(y=[self.number(f"{i}") for i in range(3)], z=self.b(x="end").y)
""",
    ),
    "caught_around_a_helper": _method(
        """
def check(self, text):
    if "z" not in text:
        raise ValueError("no z")
""",
        """
out = []
for i in range(3):
    try:
        text = self.a(x=f"{x}{i}").y
        self.check(text)
        out.append(text)
    except ValueError:
        out.append("bad")
return dspy.Prediction(y=out, z=self.b(x="end").y)
""",
    ),
    "caught_key_error": _forward("""
try:
    v = {"a": 1}[self.a(x=x).y]
except KeyError:
    v = 0
return dspy.Prediction(v=v, y=[self.b(x=f"{i}").y for i in range(4)])
"""),
    "caught_failure_of_an_lm": _forward("""
try:
    v = self.a(x="raise LMFailure").y
except Exception:
    v = "none"
return dspy.Prediction(v=v, y=[self.b(x=f"{i}").y for i in range(4)])
"""),
    "caught_assertion": _forward("""
out = []
for i in range(4):
    try:
        r = self.ask(x=f"{x}{i}")
        assert r.score > 5
        out.append(r.score)
    except AssertionError:
        out.append(self.a(x=f"{i}").y)
return dspy.Prediction(y=out)
"""),
    "caught_inside_of_another": _forward("""
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
"""),
    "calls_before_what_fails": _forward("""
try:
    one, two = self.a(x="1").y, self.b(x="2").y
    n = int("no number")
except ValueError:
    n = 0
return dspy.Prediction(y=[n, one, two, self.c(x="3").y])
"""),
    "retried": _forward("""
for i in range(3):
    try:
        r = self.a(x=f"{x}{i}").y
        if len(r) < 100:
            raise ValueError("short")
        return dspy.Prediction(y=r)
    except ValueError:
        x += "!"
return dspy.Prediction(y=self.b(x=x).y)
"""),
    # Equal calls that are different requests
    "other_adapter": _forward("""
y = None
with dspy.context(adapter=dspy.JSONAdapter()):
    if self.ask(x=x).score > -1:
        y = self.a(x="same").y
with dspy.context(adapter=dspy.ChatAdapter()):
    z = self.a(x="same").y
return dspy.Prediction(y=[y, z])
"""),
    "other_configuration": _forward("""
y = None
if self.ask(x=x).score > -1:
    y = self.a(x="same", config={"temperature": 0.5}).y
return dspy.Prediction(y=[y, self.a(x="same", config={"temperature": 1.0}).y])
"""),
    "true_is_not_one": _forward("""
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=1).y
return dspy.Prediction(y=[y, self.a(x=True).y, self.a(x=1.0).y])
"""),
    "other_order": _forward("""
y = None
if self.ask(x=x).score > -1:
    y = self.a(x={"p": 1, "q": 2}).y
return dspy.Prediction(y=[y, self.a(x={"q": 2, "p": 1}).y])
"""),
    # What the program has passed when the scout comes to it
    "sleeps_after_a_global": _forward(
        """
n = bump()
time.sleep(0.01)
return dspy.Prediction(y=[self.a(x=f"{n}").y, self.b(x=f"{n}b").y])
""",
        """
def bump():
    COUNTER["n"] += 1
    return COUNTER["n"]

""",
    ),
    "sleeps_after_an_attribute": _forward(
        """
n = bump()
time.sleep(0.01)
return dspy.Prediction(y=[self.a(x=f"{n}").y, self.b(x=f"{n}b").y])
""",
        """
def bump():
    COUNTING.n += 1
    return COUNTING.n

""",
    ),
    "sleeps_after_a_long_list": _method(
        "def setup(self): self.long = list(range(2000))",
        """
self.long.append(1)
time.sleep(0.01)
return dspy.Prediction(y=[self.a(x=f"{len(self.long)}").y, self.b(x="b").y])
""",
    ),
    "sleeps_after_a_global_number": _forward(
        """
n = bump()
time.sleep(0.01)
return dspy.Prediction(y=[self.a(x=f"{n} {read()}").y, self.b(x=f"{n}b").y])
""",
        """
TURNS = 0


def bump():
    global TURNS
    TURNS += 1
    return TURNS


def read():
    return TURNS

""",
    ),
    "reads_a_global_number_before": _forward(
        """
time.sleep(0.01)
before = read()
y = None
if self.ask(x=x).score > -1:
    y = self.a(x=f"{read()}").y
bump()
return dspy.Prediction(y=[before, y, self.b(x=f"{read()}").y])
""",
        """
TURNS = 0


def bump():
    global TURNS
    TURNS += 1
    return TURNS


def read():
    return TURNS

""",
    ),
    # Changed by the program before its scout has begun
    "global_list_that_grows": _forward(_GROWS, _LISTS),
    "long_list_that_grows": _forward(_GROWS.replace("grow(LOG)", "grow(LONG)"), _LISTS),
    "list_of_a_class_that_grows": _forward(_GROWS.replace("grow(LOG)", "grow(Lists.kept)"), _LISTS),
    "list_of_a_method_that_grows": _method(
        """
def grown(self):
    return grow(self.kept)
""",
        _GROWS.replace("grow(LOG)", "self.grown()"),
        _LISTS,
    ).replace("class Program(Base):\n", "class Program(Base):\n    kept = []\n\n"),
    "number_of_a_global_object_that_grows": _forward(
        _GROWS.replace("grow(LOG)", "bump()"),
        """
def bump():
    COUNTING.n += 1
    return COUNTING.n

""",
    ),
}
