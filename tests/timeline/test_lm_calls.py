"""What is known of an LM call: requests, retries, the cache, waits, text."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import dspy
import pytest

from dspy_parallel import async_module, limit, record, seams
from dspy_parallel.seams import call_spans
from dspy_parallel.seams.connections import STOCK

# LiteLLM leaves sockets to the garbage collector, and before Python 3.12 event loops.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None


class Ask(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.ask(question=question)


def lm_at(server, **options):
    return dspy.LM("openai/test", **{"cache": False, **server.lm_kwargs(), **options})


def run(how, program, question="?"):
    if how == "sync":
        return program(question=question)
    return asyncio.run(async_module(program, engine="loop").acall(question=question))


@pytest.fixture
def waits(monkeypatch):
    """Semaphores by name: released when a wait of that name begins."""
    begun = {name: threading.Semaphore(0) for name in ("connection", "reply")}

    def perf_counter():
        now = time.perf_counter()
        name = sys._getframe(1).f_locals.get("name")  # of the wrapper that measures a wait
        if name in begun:
            begun[name].release()
        return now

    monkeypatch.setattr(call_spans, "time", SimpleNamespace(perf_counter=perf_counter))
    return begun


def moment_of(timeline):
    """The present one, on the timeline's clock."""
    return time.perf_counter() - timeline._source.__self__.began


def contain(spans, moment):
    return [span for span in spans if span.start <= moment <= span.end]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_waiting_for_the_reply_is_a_part_of_the_call(lm_server, how, waits):
    lm_server.configure(hold=True)
    dspy.configure(lm=lm_at(lm_server))
    with record() as timeline, ThreadPoolExecutor(1) as executor:
        running = executor.submit(run, how, Ask())
        assert waits["reply"].acquire(timeout=60)
        lm_server.wait_for(held=1)
        held_back = moment_of(timeline)
        lm_server.release()
        running.result()
    (call,) = timeline.lm_calls
    assert call.facts["requests"] == 1
    (reply,) = [span for span in timeline.spans if span.name == "reply"]
    assert reply.facts["status"] == 200
    assert reply.parent == call.id
    assert contain([reply], held_back)
    assert call.start <= reply.start <= reply.end <= call.end


@pytest.mark.parametrize("how", ["sync", "async"])
def test_retries_are_counted(lm_server, how):
    lm_server.configure(faults=[{"kind": "503", "first": 1}])
    with dspy.context(lm=lm_at(lm_server, num_retries=2)), record() as timeline:
        run(how, Ask())
    (call,) = timeline.lm_calls
    assert (call.facts["requests"], call.facts["retries"]) == (2, 1)
    assert timeline.figures.retries == 1
    assert [s.facts["status"] for s in timeline.spans if s.name == "reply"] == [503, 200]


@pytest.mark.parametrize("how", ["sync", "async"])
def test_answers_from_the_cache_are_marked(lm_server, how):
    with dspy.context(lm=lm_at(lm_server, cache=True)):
        with record() as first:
            run(how, Ask())
        with record() as second:
            run(how, Ask())
    assert "cached" not in first.lm_calls[0].facts
    assert second.lm_calls[0].facts == {"cached": True}
    assert (first.figures.cached, second.figures.cached) == (0, 1)


async def test_waiting_for_an_equal_call_is_not_lm_time(lm_server):
    lm_server.configure(hold=True)
    program = async_module(Ask(), engine="loop")
    with dspy.context(lm=lm_at(lm_server, cache=True)), record() as timeline:
        both = asyncio.gather(program.acall(question="same"), program.acall(question="same"))
        await asyncio.to_thread(lm_server.wait_for, in_flight=1)
        lm_server.release()
        await both
    assert [span.name for span in timeline.spans if span.kind == "wait"].count("equal call") == 1
    assert timeline.figures.peak_in_flight == 1
    assert timeline.figures.cached == 1


@pytest.mark.parametrize("when", ["before", "during"])
async def test_waiting_for_a_limit_is_lost_time(lm_server, when):
    lm_server.configure(hold=True)
    seams.uninstall()
    lm = lm_at(lm_server)
    held = limit(lm, max_in_flight=1) if when == "before" else None
    with dspy.context(lm=lm), record() as timeline:
        held = held or limit(lm, max_in_flight=1)
        program = async_module(Ask(), engine="loop")
        calls = [asyncio.create_task(program.acall(question=str(number))) for number in range(3)]
        await lm_server.await_for(held=1)
        while held.waiting < 2:
            await asyncio.sleep(0)
        both_wait = moment_of(timeline)
        await asyncio.sleep(0.02)  # what takes less is not worth a line
        for call in calls:
            await lm_server.arelease(1)
            await call
    figures = timeline.figures
    waits = [span for span in timeline.spans if span.name == "limit"]
    assert {timeline.spans[span.parent].kind for span in waits} == {"lm"}
    assert len(contain(waits, both_wait)) == 2
    assert figures.peak_in_flight <= 2  # one is dealing with its reply when the next one begins
    assert figures.limit_seconds == pytest.approx(sum(span.seconds for span in waits))
    assert "waiting for limits" in str(timeline)


def one_connection(client, monkeypatch):
    """Have the client make one connection at most; give options of an LM that uses it."""
    if client.startswith("native"):
        name, transport = ("_async", "StdlibAsyncTransport") if "async" in client else ("_sync", "StdlibTransport")
        module = importlib.import_module(f"dspy._vendor.lm15.transports.{name}")
        monkeypatch.setitem(getattr(module, transport).__init__.__kwdefaults__, "max_connections", 1)
        return {}
    httpx, litellm = importlib.import_module("httpx"), importlib.import_module("litellm")
    clients = litellm.in_memory_llm_clients_cache  # by address; not by the session that the client would be made with
    monkeypatch.setattr(litellm, "in_memory_llm_clients_cache", type(clients)())
    if client == "aiohttp async":
        handler = importlib.import_module("litellm.llms.custom_httpx.http_handler")
        if not hasattr(handler, "AIOHTTP_CONNECTOR_LIMIT_PER_HOST"):
            pytest.skip("this LiteLLM has no such setting")
        monkeypatch.setattr(handler, "AIOHTTP_CONNECTOR_LIMIT_PER_HOST", 1)
    elif client == "httpx async":
        monkeypatch.setattr(litellm, "aclient_session", httpx.AsyncClient(limits=httpx.Limits(max_connections=1)))
    else:
        monkeypatch.setattr(litellm, "client_session", httpx.Client(limits=httpx.Limits(max_connections=1)))
    return {"engine": "litellm"} if NATIVE else {}


@pytest.mark.parametrize(
    "client",
    [
        *(
            pytest.param(client, marks=pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4"))
            for client in ("native async", "native sync")
        ),
        "aiohttp async",
        "httpx async",
        "httpx sync",
    ],
)
def test_waiting_for_a_free_connection_is_seen(lm_server, monkeypatch, client, waits):
    """Of two calls, one waits for the connection of the other; fails when a client calls that by another name."""
    seams.uninstall()
    lm_server.configure(hold=True)
    lm = lm_at(lm_server, **one_connection(client, monkeypatch))

    def second_waits():
        assert waits["connection"].acquire(timeout=60)
        moment = moment_of(timeline)
        time.sleep(0.002)  # what takes less than a millisecond is left out
        return moment

    def first_is_there():
        while waits["connection"].acquire(blocking=False):
            pass

    async def both():
        first = asyncio.create_task(lm.acall("one"))
        await lm_server.await_for(held=1)
        first_is_there()
        second = asyncio.create_task(lm.acall("two"))
        moment = await asyncio.get_running_loop().run_in_executor(None, second_waits)
        await lm_server.arelease()
        await asyncio.gather(first, second)
        return moment

    with record() as timeline:
        if "async" in client:
            moment = asyncio.run(both())
        else:
            with ThreadPoolExecutor(2) as executor:
                first = executor.submit(lm, "one")
                lm_server.wait_for(held=1)
                first_is_there()
                second = executor.submit(lm, "two")
                moment = second_waits()
                lm_server.release()
                first.result(), second.result()
    assert lm_server.stats().peak_in_flight == 1
    found = contain([span for span in timeline.spans if span.name == "connection"], moment)
    assert [(wait.kind, timeline.spans[wait.parent].kind) for wait in found] == [("wait", "lm")]
    assert timeline.figures.connection_seconds >= found[0].seconds


@pytest.mark.skipif(not NATIVE, reason="DSPy's own engine came with 3.4")
async def test_a_recorded_program_has_the_connections_that_it_has_anyway(lm_server):
    seams.uninstall()
    lm_server.configure(gate=STOCK)
    lm = lm_at(lm_server)
    with record():
        await asyncio.gather(*(lm.acall(str(number)) for number in range(STOCK + 50)))
    assert lm_server.stats().peak_connections == STOCK
    await lm.aclose()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_key_that_an_error_quotes_is_hidden(lm_server, how):
    lm_server.configure(faults=[{"kind": "401", "message": "sk-very-secret is no key"}])
    with record(include_text=True) as timeline, dspy.context(lm=lm_at(lm_server, api_key="sk-very-secret")):
        with pytest.raises(Exception, match="sk-very-secret"):
            run(how, Ask())
    shown = str([span.facts for span in timeline.spans])
    assert "*** is no key" in shown
    assert "sk-very-secret" not in shown


SECRETS = ("sk-very-secret", "the question", "an answer")


@pytest.mark.parametrize("include_text", [False, True])
@pytest.mark.parametrize("how", ["sync", "async"])
def test_text_only_if_asked_for_and_keys_never(lm_server, tmp_path, how, include_text):
    lm_server.configure(replies=[{"fields": {"answer": "an answer"}}])
    lm = lm_at(lm_server, api_key="sk-very-secret")
    with dspy.context(lm=lm), record(include_text=include_text) as timeline:
        run(how, Ask(), "the question")
        lm("the question", api_key="sk-very-secret", headers={"x": "sk-very-secret"})
    for name in ("t.html", "t.svg", "t.json", "t.trace.json", "t.txt"):
        timeline.save(tmp_path / name)
        written = (tmp_path / name).read_text(encoding="utf-8")
        found = [secret for secret in SECRETS if secret in written]
        assert found == (list(SECRETS[1:]) if include_text and name not in ("t.svg", "t.txt") else [])


def test_keys_are_found_in_lists_in_arguments_and_in_results():
    class Program(dspy.Module):
        def forward(self, config, *more):
            return f"asked with {config[0]['api_key']}, {more[0][0]['password']}", [{"token": "tok-in-result"}]

    given = [{"api_key": "sk-in-a-list"}], ({"headers": [{"x-any": "header-in-a-list"}], "password": "it's\n\\ mine"},)
    with record(include_text=True) as timeline:
        Program()(*given)
    shown = str(timeline.spans[0].facts["inputs"]) + str(timeline.spans[0].facts["outputs"])
    assert shown.count("***") == 6
    assert not [text for text in ("in-a-list", "mine", "in-result") if text in shown]


def test_a_call_that_overlap_makes_early_is_one_call(lm_server):
    class Both(dspy.Module):
        def __init__(self):
            super().__init__()
            self.read = dspy.ChainOfThought("text -> summary")
            self.judge = dspy.Predict("summaries: list[str] -> verdict")

        def forward(self, texts):
            return self.judge(summaries=[self.read(text=text).summary for text in texts])

    program = async_module(Both, engine="loop", overlap=True)()
    lm_server.configure(gate=3)
    with dspy.context(lm=lm_at(lm_server)), record() as timeline:
        asyncio.run(program.acall(texts=["one", "two", "three"]))
    assert timeline.figures.lm_calls == lm_server.stats().requests == 4
    assert all(call.facts["requests"] == 1 and call.facts["tokens"] > 0 for call in timeline.lm_calls)
    spans = timeline.spans
    names = sorted(spans[call.parent].name for call in timeline.lm_calls)
    assert names == ["judge", "predict", "read", "read"]
