"""`diagnose()`: targets of every kind, caps of this machine, and the table of blocking calls against the seams."""

from __future__ import annotations

import threading
import time
import types

import dspy
import pytest

from dspy_parallel import async_module, diagnose, install, seams, uninstall
from dspy_parallel.analysis.trusted_types import unpatched
from dspy_parallel.errors import TargetError

lock = threading.Lock()
sleep = unpatched(time.sleep)


class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.predict(question=question)


class Careless(Answer):
    def forward(self, question):
        return super().forward(question + input())


def kinds(target, **options):
    return [finding.kind for finding in diagnose(target, **options)]


def test_a_class_an_instance_and_what_is_covered_by_install():
    assert kinds(Answer) == kinds(Answer()) == ["forward-only"]
    install()
    try:
        assert kinds(Answer) == []
        assert kinds(dspy.BestOfN(Answer(), N=2, reward_fn=lambda args, pred: 1.0, threshold=1.0)) == []
    finally:
        uninstall()
    (finding,) = diagnose(dspy.BestOfN(Answer(), N=2, reward_fn=lambda args, pred: 1.0, threshold=1.0))
    assert "install()" in finding.instead


def test_forward_is_followed_through_super_and_the_finding_says_how_it_was_reached():
    class Shouting(Careless):
        def forward(self, question):
            return super().forward(question.upper())

    (finding,) = diagnose(async_module(Shouting))
    assert finding.kind == "blocking-call"
    assert finding.place.line == Careless.forward.__code__.co_firstlineno + 1
    assert [place.function.rpartition(".")[2] for place in finding.through] == ["forward"]


def test_an_overlapped_module_is_read_like_any_other():
    class Asking(Answer):
        def forward(self, question):
            return self.predict(question=question + input())

    assert kinds(async_module(Asking, overlap=True)) == ["blocking-call"]


def test_what_a_blocking_call_costs_depends_on_who_runs_the_program():
    def plain(question):
        return input(question)

    def locking(question):
        lock.acquire()
        return question

    (finding,) = diagnose(plain)
    assert finding.cost == "The program would run in a thread of its own."
    (finding,) = diagnose(async_module(Careless))
    assert finding.cost == "The program runs in a thread of its own."
    (finding,) = diagnose(locking)
    assert "@offload" not in finding.instead


def test_a_name_that_was_imported_before_it_is_patched_stays_what_it_was():
    def nap(question):
        sleep(0.01)
        time.sleep(0.01)
        return question

    (finding,) = diagnose(nap)
    assert finding.kind == "blocking-call"
    assert finding.instead.startswith("import time; time.sleep(...)")


def test_a_module_s_programs_are_all_looked_at():
    module = types.ModuleType(__name__)
    module.Answer, module.lock = Answer, lock
    assert kinds(module) == ["forward-only"]


def test_what_is_no_program_is_said():
    with pytest.raises(TargetError, match="is an object of type int, which is no program"):
        diagnose(3)
    with pytest.raises(TargetError, match="cannot be made without arguments"):
        diagnose(dspy.Predict, inputs={})


def test_calls_that_the_table_says_are_handled_have_a_seam():
    """The doctor must not call a program clean because of a patch that is not there."""
    from dspy_parallel.seams.table import _table

    seams.install()
    targets = {seam.target for seam in _table._rows.values()}
    for needed in (
        "time:sleep",
        "requests.sessions:Session.send",
        "httpx._client:Client.send",
        "urllib.request:OpenerDirector.open",
        "urllib3.connectionpool:HTTPConnectionPool.urlopen",
        "subprocess:Popen.wait",
        "subprocess:Popen.communicate",
        "concurrent.futures._base:Future.result",
        "threading:Thread.join",
    ):
        assert needed in targets
