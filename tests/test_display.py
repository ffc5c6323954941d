"""What is shown to people: as a string, by rich, in a notebook; and what `status()` has to say."""

from __future__ import annotations

import asyncio
import io
import time
import types

import dspy
import pytest
from dspy.utils import DummyLM

from dspy_parallel import (
    Finding,
    async_module,
    diagnose,
    explain,
    install,
    limit,
    limit_all,
    placement_of,
    run,
    status,
    uninstall,
)
from dspy_parallel.display import Line, Shown, plain
from tests.support.timed_lm import TimedLM

EVIL = "<b>\x1b[2J</b>"


class Ask(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


@pytest.fixture(autouse=True)
def own_modules(monkeypatch):
    """Of the module classes in memory, thousands after other tests, only those of this file are looked at."""
    ours = types.SimpleNamespace(__subclasses__=lambda: [Ask])
    monkeypatch.setattr("dspy_parallel.overview.dspy", types.SimpleNamespace(Module=ours))


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    limit_all()
    uninstall()


def sleeping():
    time.sleep(0)


def shown() -> dict[str, Shown]:
    with dspy.context(lm=DummyLM([{"answer": "yes"}] * 2)):
        report = explain(Ask(), question="?")
    findings = diagnose(Ask)
    assert isinstance(findings, Shown)
    limited = limit(TimedLM(), max_in_flight=3, requests_per_minute=60)
    return {
        "1 calls: ": report,
        "forward-only": findings,
        "warning: ": findings[0],
        "at most 3 in flight, 60 per minute: 0 in flight, 0 waiting": limited,
        "sleeping: in a thread: ": placement_of(sleeping),
        "limit at most 3": status(),
    }


def test_everything_is_shown_in_three_ways():
    rich = pytest.importorskip("rich.console")
    for text, thing in shown().items():
        assert text in str(thing)
        file = io.StringIO()
        rich.Console(file=file, force_terminal=True, width=500, color_system="standard").print(thing)
        assert "\x1b[" in file.getvalue()
        rich.Console(file=(bare := io.StringIO()), width=500).print(thing)
        assert bare.getvalue().rstrip("\n") == str(thing)
        assert thing._repr_html_().startswith("<pre")


def test_a_page_obeys_nothing():
    class Evil(Shown):
        def _lines(self) -> list[Line]:
            return [[(EVIL, "bold"), ("&", "no style")], []]

    assert "<b>" not in Evil()._repr_html_()
    assert "&lt;b&gt;" in Evil()._repr_html_()
    assert str(Evil()) == f"{EVIL}&\n", "whoever makes the lines escapes what a terminal would obey"


def test_no_findings_are_said_to_be_none():
    assert str(diagnose(async_module(type("Clean", (Ask,), {})))) == "Nothing found."


def test_findings_are_a_list():
    findings = diagnose(Ask)
    assert findings == [findings[0]]
    assert isinstance(findings[0], Finding)
    assert plain(findings[0]._lines()) == str(findings[0])


def test_status_tells_where_modules_run_and_why():
    class Quick(Ask):
        """Waits for its LM only."""

    class Slow(Ask):
        def forward(self, question):
            time.sleep(0)
            return self.ask(question=question)

    async_module(Quick, overlap=True)
    async_module(Slow)
    async_module(pinned := type("Pinned", (Ask,), {"__module__": __name__}), engine="thread")
    found = {each.name.rpartition(".")[2]: each for each in status().modules if each.name.startswith(__name__)}
    assert set(found) >= {"Quick", "Slow", pinned.__name__}
    assert [found[name].placement.engine for name in ("Quick", "Slow", "Pinned")] == ["loop", "thread", "thread"]
    assert [found[name].overlap for name in ("Quick", "Slow")] == [True, False]
    assert "sleep" in found["Slow"].placement.reason
    assert found["Slow"].placement.filename == __file__
    assert f"test_display.py:{found['Slow'].placement.line}" in str(status())


def test_status_tells_of_functions_that_ran_and_of_what_is_patched():
    def here():
        return 1

    def busy():
        time.sleep(0)

    uninstall()
    assert not status().patched
    assert "Nothing has been bridged" in str(status())
    asyncio.run(run(here))
    asyncio.run(run(busy))
    found = {each.name.rpartition(".")[2]: each.engine for each in status().programs}
    assert (found["here"], found["busy"]) == ("loop", "thread")
    install()
    assert status().patched
    assert any(each.name.endswith("Ask") for each in status().modules)
