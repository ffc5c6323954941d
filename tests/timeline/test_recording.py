"""What `record()` sees, and that nobody sees `record()`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.callback import BaseCallback

from dspy_parallel import TargetError, Timeline, TimelineError, async_module, events, record, seams
from dspy_parallel.seams.patches import Patch
from dspy_parallel.seams.table import _table


class Inner(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.first = Inner()
        self.rest = [Inner(), Inner()]

    def forward(self, question):
        answer = self.first(question=question)
        for part in self.rest:
            answer = part(question=answer.answer)
        return answer


def lm():
    return DummyLM([{"answer": str(number)} for number in range(1000)])


def tree(timeline):
    """Spans as `(kind, name, parent's name)`, without what depends on how a program is run."""
    spans = timeline.spans

    def above(span):
        parent = None if span.parent is None else spans[span.parent]
        return above(parent) if parent is not None and parent.kind == "thread" else parent

    shown = [span for span in spans if span.kind not in ("thread", "wait", "blocked")]
    return [(s.kind, s.name, above(s).name if above(s) else None) for s in shown]


ONE = [
    ("module", "Program", None),
    ("module", "first", "Program"),
    ("predictor", "ask", "first"),
    ("lm", "dummy", "ask"),
    ("module", "rest[0]", "Program"),
    ("predictor", "ask", "rest[0]"),
    ("lm", "dummy", "ask"),
    ("module", "rest[1]", "Program"),
    ("predictor", "ask", "rest[1]"),
    ("lm", "dummy", "ask"),
]


def test_a_sync_call_is_a_tree():
    with dspy.context(lm=lm()), record() as timeline:
        Program()(question="?")
    assert tree(timeline) == ONE
    assert all(span.end >= span.start >= 0 for span in timeline.spans)


@pytest.mark.parametrize("engine", ["auto", "loop", "thread"])
def test_a_bridged_program_is_the_same_tree(engine):
    program = async_module(Program(), engine=engine)
    with dspy.context(lm=lm()), record() as timeline:
        asyncio.run(program.acall(question="?"))
    assert tree(timeline) == ONE
    threads = [span for span in timeline.spans if span.kind == "thread"]
    assert bool(threads) == (engine == "thread")  # the program's code is known
    assert all(span.thread == span.name != "MainThread" for span in threads)


class Meeting(dspy.BaseLM):
    """Answers when so many calls are waiting together."""

    def __init__(self, wanted):
        super().__init__("meeting", cache=False)
        self.wanted, self.here, self.all_here = wanted, 0, asyncio.Event()

    def __deepcopy__(self, memo):
        return self

    async def acall(self, prompt=None, messages=None, **kwargs):
        self.here += 1
        if self.here >= self.wanted:
            self.all_here.set()
        await self.all_here.wait()
        return ["[[ ## answer ## ]]\nyes\n\n[[ ## completed ## ]]"]


async def test_parents_are_right_when_many_run_at_once():
    program, count = async_module(Inner(), engine="loop"), 30
    with dspy.context(lm=Meeting(count)), record() as timeline:
        await asyncio.gather(*(program.acall(question=str(number)) for number in range(count)))
    spans = timeline.spans
    calls = timeline.lm_calls
    assert len(calls) == count
    assert len({spans[call.parent].parent for call in calls}) == count
    assert timeline.figures.peak_in_flight == count


@pytest.mark.parametrize("threads", [1, 4])
def test_dspy_parallel_is_seen_in_its_threads(threads):
    program = Inner()
    pairs = [(program, dspy.Example(question=str(n)).with_inputs("question")) for n in range(6)]
    with dspy.context(lm=lm()), record() as timeline:
        dspy.Parallel(num_threads=threads, disable_progress_bar=True)(pairs)
    assert [span.kind for span in timeline.spans].count("lm") == 6


def test_executors_of_ones_own_are_seen_with_their_parents():
    program = Inner()
    dspy.configure(lm=lm())
    with record() as timeline, events.span("node", "mine"), ThreadPoolExecutor(3) as executor:
        list(executor.map(lambda n: program(question=str(n)), range(5)))
    spans = timeline.spans
    roots = [span for span in spans if span.kind == "module"]
    assert len(roots) == 5
    assert {spans[span.parent].name for span in roots} == {"mine"}


def in_thread(fn):
    thread = threading.Thread(target=fn)
    thread.start()
    thread.join()


@pytest.mark.parametrize("everywhere", [True, False])
def test_foreign_threads_only_if_asked_for(everywhere):
    dspy.configure(lm=lm())
    with record(everywhere=everywhere) as timeline:
        in_thread(lambda: Inner()(question="?"))
    assert len(timeline.lm_calls) == everywhere


async def test_two_at_once_do_not_mix():
    program = async_module(Inner(), engine="loop")
    both = Meeting(2)

    async def request():
        with record() as timeline:
            await program.acall(question="?")
        return timeline

    with dspy.context(lm=both):
        timelines = await asyncio.gather(request(), request())
    assert [len(timeline.lm_calls) for timeline in timelines] == [1, 1]


def test_blocks_nest():
    with dspy.context(lm=lm()), record() as outer:
        Inner()(question="before")
        with record() as inner:
            Inner()(question="inside")
        Inner()(question="after")
    assert (len(outer.lm_calls), len(inner.lm_calls)) == (3, 1)
    assert tree(inner)[0][2] is None


def test_text_that_the_inner_block_keeps_stays_there():
    with dspy.context(lm=lm()), record() as outer, record(include_text=True) as inner:
        Inner()(question="sk-secret")
    assert "sk-secret" in str([span.facts for span in inner.spans])
    assert "sk-secret" not in str([span.facts for span in outer.spans])


async def test_what_outlives_the_block_is_not_recorded():
    started, go_on = asyncio.Event(), asyncio.Event()

    async def late():
        started.set()
        await go_on.wait()
        Inner()(question="late")

    with dspy.context(lm=lm()):
        with record() as timeline:
            task = asyncio.create_task(late())
            await started.wait()
        go_on.set()
        await task
    assert timeline.spans == []


def test_it_can_be_looked_at_meanwhile():
    with record() as timeline:
        with events.span("node", "open"):
            assert timeline.spans[0].facts == {"unfinished": True}
        assert timeline.spans[0].facts == {}


def test_a_call_that_was_given_up_before_it_asked_anything_is_none():
    """Unless nobody sees the requests of this LM."""
    with record() as timeline:
        for name, asks, error in (
            ("m", True, None),
            ("m", True, asyncio.CancelledError()),
            ("m", False, asyncio.CancelledError()),
            ("m", False, ValueError()),
            ("custom", False, asyncio.CancelledError()),
        ):
            call = events.begin(events.current(), "lm", name)
            if asks:
                events.waited("reply", call.start)
            events.end(call, error)
    found = [(call.name, call.facts.get("requests", 0), call.facts.get("error")) for call in timeline.lm_calls]
    cancelled = "CancelledError"
    assert found == [("m", 1, None), ("m", 1, cancelled), ("m", 0, "ValueError"), ("custom", 0, cancelled)]


def test_it_is_saved_when_the_block_is_left(tmp_path):
    with contextlib.suppress(KeyError), dspy.context(lm=lm()), record(save=tmp_path / "run.json") as timeline:
        Inner()(question="?")
        raise KeyError
    assert tree(Timeline.load(tmp_path / "run.json")) == tree(timeline) != []
    for path, error in (("run.pdf", TimelineError), (tmp_path / "nowhere" / "run.json", TargetError)):
        with pytest.raises(error), record(save=path):
            pytest.fail("begins all the same")


def test_exceptions_are_named_and_go_on():
    class Failing(dspy.Module):
        def forward(self):
            raise LookupError("sk-secret")

    with record() as timeline, pytest.raises(LookupError, match="sk-secret"):
        Failing()()
    assert timeline.spans[0].facts["error"] == "LookupError"
    assert "sk-secret" not in str([span.facts for span in timeline.spans])


@pytest.mark.parametrize("tool", ["sync", "async"])
def test_tools_are_seen(tool):
    def sync(n: int) -> int:
        return n + 1

    async def asynchronous(n: int) -> int:
        return n + 1

    made = dspy.Tool(sync if tool == "sync" else asynchronous, name="increase")
    with record() as timeline:
        assert asyncio.run(made.acall(n=1)) == 2
    assert tree(timeline) == [("tool", "increase", None)]


class Watching(BaseCallback):
    def __init__(self):
        self.seen = []

    def on_module_start(self, call_id, instance, inputs):
        self.seen.append(("module", type(instance).__name__))

    def on_lm_start(self, call_id, instance, inputs):
        self.seen.append(("lm", instance.model))


def test_nobody_sees_it():
    """Callbacks, settings, history, trace and results are those without a recording."""
    seen = []
    for recording in (False, True):
        watching, model = Watching(), lm()
        with dspy.context(lm=model, callbacks=[watching], trace=[]):
            settings = set(dspy.settings.config)
            if recording:
                with record() as timeline:
                    assert set(dspy.settings.config) == settings
                    assert dspy.settings.callbacks == [watching]
                    result = Program()(question="?")
            else:
                result = Program()(question="?")
            seen.append((watching.seen, len(model.history), len(dspy.settings.trace), result.answer))
    assert seen[0] == seen[1]
    assert len(timeline.lm_calls) == 3


def test_nothing_is_kept_alive():
    import gc
    import weakref

    with dspy.context(lm=lm()), record() as timeline:
        program = Program()
        program(question="?")
        gone = weakref.ref(program)
        del program
        gc.collect()
        assert gone() is None, gc.get_referrers(gone())
    assert isinstance(timeline, Timeline)


def patchable():
    """What every row of the table is about, as it is now."""
    found = {}
    for row in _table._rows.values():
        owner = sys.modules.get(row.module)
        for step in row.path[:-1]:
            owner = getattr(owner, step, None)
        if owner is not None:
            found[row.target] = vars(owner).get(row.path[-1])
    return found


def test_it_patches_only_what_it_needs_and_only_while_it_goes_on():
    """Nothing of it is there before, after, or because a class was decorated; nothing else comes with it."""
    seams.uninstall()
    watched = {row.target for row in _table._rows.values() if row.part == "recording"}
    stock = patchable()
    for decorated in (False, True):
        if decorated:
            async_module(type("Decorated", (Inner,), {}))
        before = patchable()
        assert all(type(value) is not Patch or value._self_seam.part == "bridge" for value in before.values())
        with record():
            now = patchable()
            with record():
                assert {target for target in now if now[target] is not patchable()[target]} == set()
            assert {target for target in now if now[target] is not patchable()[target]} == set()
        changed = {target for target in now if now[target] is not before[target]}
        assert {"dspy.primitives.module:Module.acall", "dspy.clients.base_lm:BaseLM.acall"} <= changed <= watched
        assert {target for target, value in patchable().items() if value is not before[target]} == set()
    seams.uninstall()
    assert {target for target, value in patchable().items() if value is not stock[target]} == set()


def test_what_is_installed_meanwhile_is_inside():
    seams.uninstall()
    with record() as timeline, dspy.context(lm=lm()):
        around = vars(dspy.BaseLM)["__call__"]
        seams.install()
        assert vars(dspy.BaseLM)["__call__"] is around
        assert around.__wrapped__._self_seam.part == "bridge"
        Inner()(question="?")
    assert tree(timeline) == [("module", "Inner", None), ("predictor", "ask", "Inner"), ("lm", "dummy", "ask")]
    assert vars(dspy.BaseLM)["__call__"]._self_seam.part == "bridge"


def test_somebody_elses_patch_around_ours_stays_and_nothing_is_seen_twice(monkeypatch):
    with dspy.context(lm=lm()):
        with record():
            ours = vars(dspy.Module)["__call__"]

            @functools.wraps(ours)
            def theirs(self, *args, **kwargs):
                return ours.__get__(self, type(self))(*args, **kwargs)

            monkeypatch.setattr(dspy.Module, "__call__", theirs)
        with record() as timeline:
            Inner()(question="?")
        assert tree(timeline) == [("module", "Inner", None), ("predictor", "ask", "Inner"), ("lm", "dummy", "ask")]
        monkeypatch.undo()
        with record():
            pass
    assert vars(dspy.Module)["__call__"] is not ours


def test_recordings_that_come_and_go_see_all_of_theirs():
    program, counts = Inner(), []

    def work():
        with dspy.context(lm=lm()):
            for _ in range(30):
                with record() as timeline:
                    program(question="?")
                    program(question="?")
                counts.append(len(timeline.lm_calls))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [2] * 120


def test_it_begins_and_ends_with_the_block():
    assert events.current() is None
    with record():
        assert events.current() is not None
    assert events.current() is None
