"""Programs whose branches wait for an LM, while what follows changes or reads what they use.

Most of them ask first (`self.ask`), and do something in the branch that is not decided yet: the scout goes on
meanwhile, and must not see, or let be seen, what is not there yet.
"""

import functools
import operator
import time

import dspy

from tests.overlap.stateful import COUNTER, COUNTING, LOG, Base, Programs

__all__ = ["program"]

program = Programs()


def add(items):
    items.append("x")
    return len(items)


def log():
    LOG.append("x")


# Changed in a branch that may be skipped, and be over before the one before it


@program
def appended_by_the_slow_one_alone(self, x):
    items = []
    if self.ask(x=f"{x} slow").score > -1:
        items.append("slow")
    if self.ask(x="word").score < -1:
        items.append("fast")
    return dspy.Prediction(y=self.a(x=f"{items}").y)


@program
def appended_in_the_slow_turn_alone(self, x):
    items = []
    for each in ("slow", "word"):
        if (self.ask(x=each).score > -1) is (each == "slow"):
            items.append(each)
    return dspy.Prediction(y=self.a(x=f"{items}").y)


@program
def appended_by_a_name_that_a_loop_binds_anew(self, x):
    rows, row = [["a"], ["b"]], ["first"]
    kept = row
    if self.ask(x=x).score > -1:
        row.append("x")
        for row in rows:
            row.append("y")
    return dspy.Prediction(y=self.a(x=f"{kept}").y)


# Read in a branch, changed after it


@program
def list_of_self(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x=f"{len(self.state)}").y
    self.state.append("x")
    return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def item_of_self(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x=self.memory["k"]).y
    self.memory["k"] = "new"
    return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def global_object(self, x):
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x=f"{COUNTING.n}").y
    COUNTING.n += 1
    return dspy.Prediction(y=y, z=self.b(x="2").y)


def read_then_changed(name, look, change, setup=lambda self: None):
    class Reads(Base):
        def forward(self, x):
            y = None
            if self.ask(x=x).score > -1:
                y = self.a(x=f"{look(self)}").y
            change(self)
            return dspy.Prediction(y=y, z=self.b(x="2").y)

    Reads.__name__, Reads.setup = name, setup
    program(Reads)


def extend(self):
    self.state += ["x"]


def count(self):
    self.n += 1


def change_by_another_name(self):
    items = self.memory["list"]
    items.append("x")


def push(self):
    push = self.state.append
    push("x")


def hold(self):
    self.kept = ["f"]
    self.state.append(self.kept)


read_then_changed("list_of_self_extended", lambda self: self.state, extend)
read_then_changed("attribute_of_self", lambda self: self.n, count)
read_then_changed("alias_of_self", lambda self: self.memory, change_by_another_name)
read_then_changed("bound_method", lambda self: self.state, push)
read_then_changed("global_list", lambda self: len(LOG), lambda self: LOG.append("x"))
read_then_changed("global_by_a_helper", lambda self: LOG, lambda self: log())
read_then_changed("self_by_a_helper_of_a_parameter", lambda self: self.state, lambda self: add(self.state))
read_then_changed("global_by_operator", lambda self: COUNTER, lambda self: operator.setitem(COUNTER, "n", 7))
read_then_changed("put_into_self", lambda self: self.state, lambda self: self.kept.append("x"), hold)


@program
class PredictorsOfSelf(Base):
    def setup(self):
        self.ps = [self.a, self.c]

    def forward(self, x):
        y = None
        if self.ask(x=x).score > -1:
            y = self.a(x=f"{[type(p).__name__ for p in self.ps]}").y
        self.ps.reverse()
        return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def shared_by_partial(self, x):
    items = ["i"]
    later = functools.partial(lambda found, t: self.a(x=f"{found}{t}").y, items)
    y = None
    if self.ask(x=x).score > -1:
        y = later("1")
    items.append("x")
    return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def pending_set_on_self_and_changed(self, x):
    parts = self.listing(x=x).parts
    self.box = self.memory["list"] = parts
    y = None
    if self.ask(x=x).score > -1:
        y = self.a(x=f"{self.box}{self.memory}").y
    parts.append("x")
    return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
class HelperReadsSelf(Base):
    def look(self, x):
        if self.ask(x=x).score > -1:
            return self.a(x=" ".join(self.state)).y
        return ""

    def forward(self, x):
        one = self.look(x)
        self.state.append("new")
        return dspy.Prediction(y=[one, self.look(x + "2")])


@program
def memory_in_a_loop(self, x):
    out = []
    for i in range(3):
        r = self.ask(x=f"{x}{i}")
        if r.score > -1:
            out.append(self.a(x=f"{i} {len(self.state)}").y)
        self.state.append(str(i))
    return dspy.Prediction(y=out)


@program
def answers_in_memory(self, x):
    for i in range(3):
        answer = self.a(x=f"{x}{i} {self.state}").y
        if self.ask(x=answer).score > -1:
            self.state.append(answer)
    return dspy.Prediction(y=list(self.state))


@program
class ClassAttribute(Base):
    seen = []

    def setup(self):
        self.seen.clear()

    def forward(self, x):
        y = None
        if self.ask(x=x).score > -1:
            y = self.a(x=f"{ClassAttribute.seen}").y
        self.seen.append("x")
        return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
class Property(Base):
    @property
    def known(self):
        return f"{len(self.state)}"

    def forward(self, x):
        y = None
        if self.ask(x=x).score > -1:
            y = self.a(x=self.known).y
        self.state.append("x")
        return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def conditional_expression(self, x):
    y = self.a(x=f"{self.state}").y if self.ask(x=x).score > -1 else ""
    self.state.append("x")
    return dspy.Prediction(y=y, z=self.b(x="2").y)


@program
def condition_of_a_comprehension(self, x):
    ys = [self.a(x=f"{i}{self.state}").y for i in range(2) if self.ask(x=f"{i}").score > -1]
    self.state.append("x")
    return dspy.Prediction(y=ys, z=self.b(x="2").y)


@program
def sorted_by_what_is_outside(self, x):
    xs = sorted(["1", "2"], key=lambda each: (self.ask(x=each).score, self.a(x=f"{each}{self.state}").y))
    self.state.append("x")
    return dspy.Prediction(y=xs, z=self.b(x="2").y)


# Changed in a branch, read after it


@program
def writes_global(self, x):
    if self.ask(x=x).score > -1:
        LOG.append("x")
    return dspy.Prediction(y=[self.a(x=f"{LOG}").y, self.b(x="2").y])


@program
def writes_by_a_bound_method_of_before(self, x):
    out = []
    push = out.append
    if self.ask(x=x).score > -1:
        push("x")
    return dspy.Prediction(y=[self.a(x=f"{out}").y, self.b(x="2").y])


@program
def writes_what_an_expression_gives(self, x):
    first, second = [], []
    if self.ask(x=x).score > -1:
        (first or second).append("x")
    return dspy.Prediction(y=[self.a(x=f"{first}{second}").y, self.b(x="2").y])


@program
def extends_another_name(self, x):
    shared = ["s"]
    if self.ask(x=x).score > -1:
        out = shared
        out += ["x"]
    return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])


@program
def item_of_self_written(self, x):
    items = self.memory["list"]
    if self.ask(x=x).score > -1:
        items.append("x")
    return dspy.Prediction(y=[self.a(x=f"{self.memory}").y, self.b(x="2").y])


def changed_then_read(name, change, look=lambda self: self.state):
    class Writes(Base):
        def setup(self):
            self.lists = [[], []]

        def items(self):
            return self.state

        def forward(self, x):
            if self.ask(x=x).score > -1:
                change(self)
            return dspy.Prediction(y=[self.a(x=f"{look(self)}").y, self.b(x="2").y])

    Writes.__name__ = name
    program(Writes)


def count_global(self):
    COUNTER["n"] += 1


def change_what_is_in_a_new_list(self):
    box = [self.state]
    box[0].append("x")


def change_in_a_loop_over_another(self):
    for each in self.memory.values():
        add(self.state)


def change_each_in_a_loop(self):
    for each in self.lists:
        each.append("x")


changed_then_read("writes_global_item", count_global, lambda self: COUNTER)
changed_then_read("writes_global_by_a_helper", lambda self: log(), lambda self: LOG)
changed_then_read("writes_self", lambda self: self.state.append("x"))
changed_then_read("writes_self_by_a_bound_method", push)
changed_then_read("writes_what_a_helper_gives", lambda self: self.items().append("x"))
changed_then_read("writes_what_is_in_a_new_list", change_what_is_in_a_new_list)
changed_then_read("writes_what_a_loop_goes_over", change_in_a_loop_over_another)
changed_then_read("writes_lists_of_self_in_a_loop", change_each_in_a_loop, lambda self: self.lists)


@program
def made_on_one_side_only(self, x):
    shared = ["s"]
    out = shared
    if self.ask(x=x).score > -1:
        if not x:
            out = []
        out.append("x")
    return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])


@program
def comprehension_that_changes_a_part_of_a_reply(self, x):
    words = self.a(x=x).y.split()[:3]
    found = [words.append(each) or each for each in [self.b(x="t").y, self.b(x="u").y] if each not in words]
    return dspy.Prediction(y=[words, found], z=self.listing(x=f"{words}").parts)


@program
def made_after_its_use(self, x):
    out = shared = ["s"]
    for i in range(2):
        if self.ask(x=f"{x}{i}").score > -1:
            out.append("x")
            out = []
    return dspy.Prediction(y=[self.a(x=f"{shared}").y, self.b(x="2").y])


def closure():
    box = []

    class Closure(Base):
        def setup(self):
            box.clear()

        def peek(self):
            return f"{len(box)}"

        def forward(self, x):
            y = None
            if self.ask(x=x).score > -1:
                y = self.a(x=self.peek()).y
            box.append("x")
            return dspy.Prediction(y=y, z=self.b(x="2").y)

    return Closure


program(closure())


class Weighing(Base):
    def weight(self, each):
        score = self.ask(x=each).score
        self.n += 1
        if score > -1:
            self.state.append(each)
        return score


@program
class SortedWithEffects(Weighing):
    def forward(self, x):
        xs = sorted(["2", "1"], key=self.weight)
        return dspy.Prediction(y=[self.a(x=f"{xs}{self.state}{self.n}").y, self.b(x="2").y])


@program
class MappedWithEffects(Weighing):
    def forward(self, x):
        xs = list(map(self.weight, ["2", "1"]))
        return dspy.Prediction(y=[self.a(x=f"{self.state}").y, self.b(x="2").y], n=len(xs))


# Changed by the program before its scout has begun

TURNS = 0
LONG = []


class Lists:
    kept = []


def bump():
    global TURNS
    TURNS += 1
    return TURNS


def read():
    return TURNS


class Passing(Base):
    def setup(self):
        global TURNS
        TURNS = 0
        LONG[:] = range(2000)
        Lists.kept.clear()
        self.long = list(range(2000))


def passed(name, change, look):
    def forward(self, x):
        n = change(self)
        time.sleep(0.001)
        return dspy.Prediction(y=[self.a(x=f"{n} {look(self)}").y, self.b(x=f"{n}b").y])

    program(type(name, (Passing,), {"forward": forward}))


def count_up(self):
    COUNTING.n += 1
    return COUNTING.n


passed("global_number_that_grows", lambda self: bump(), lambda self: read())
passed("global_object_that_grows", count_up, lambda self: COUNTING.n)
passed("global_list_that_grows", lambda self: add(LOG), lambda self: len(LOG))
passed("long_global_list_that_grows", lambda self: add(LONG), lambda self: len(LONG))
passed("long_list_of_self_that_grows", lambda self: add(self.long), lambda self: len(self.long))
passed("list_of_a_class_that_grows", lambda self: add(Lists.kept), lambda self: len(Lists.kept))


@program
class ReadsAGlobalNumberBefore(Passing):
    def forward(self, x):
        time.sleep(0.001)
        before = read()
        y = None
        if self.ask(x=x).score > -1:
            y = self.a(x=f"{read()}").y
        bump()
        return dspy.Prediction(y=[before, y, self.b(x=f"{read()}").y])


@program
class CountsInAProperty(Base):
    @property
    def turn(self):
        self.total += 1
        return self.total

    def forward(self, x):
        self.total = int(self.ask(x=x).score * 10)
        return dspy.Prediction(
            y=[self.a(x=f"{self.turn}").y if self.ask(x=f"{each}").score > -1 else "" for each in "ab"]
        )
