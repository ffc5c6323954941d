"""`diagnose()`: targets of every kind, caps of this machine, and the table of blocking calls against the seams."""

from __future__ import annotations

import threading

import dspy
import pytest

import dspy_parallel
from dspy_parallel import async_module, diagnose, install, seams, uninstall
from dspy_parallel.doctor import caps
from dspy_parallel.errors import TargetError
from dspy_parallel.seams.connections import max_connections

lock = threading.Lock()


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
    assert finding.cost.startswith("Bridged (@async_module, run()), the program would stay in worker threads")
    (finding,) = diagnose(async_module(Careless))
    assert finding.cost.startswith("The program stays in worker threads")
    (finding,) = diagnose(locking)
    assert "@offload" not in finding.instead


def test_connections_are_those_of_the_program_as_it_is_whether_or_not_this_package_is_installed():
    class Bridged(Answer):
        pass

    with dspy.context(lm=dspy.LM("openai/any")):
        limit, _ = caps.connections(dspy.settings.lm)
        for patch in (uninstall, seams.install):
            patch()
            assert "connection-cap" in kinds(Answer, in_flight=limit + 1)
            assert "connection-cap" not in kinds(Answer, in_flight=limit)
        assert kinds(async_module(Bridged), in_flight=limit + 1) == []
        assert kinds(Bridged, in_flight=max_connections() + 1) == ["connection-cap"]
        with_its_own = Answer()
        with_its_own.predict.lm = limited = dspy.LM("openai/other")
    assert "connection-cap" in kinds(with_its_own, in_flight=limit + 1)
    limit_of_it = dspy_parallel.limit(limited, max_in_flight=50)
    assert "connection-cap" not in kinds(with_its_own, in_flight=limit + 1)
    limit_of_it.lift()


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
