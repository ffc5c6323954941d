"""dspy.streamify around bridged programs: the same tokens, however many streams there are."""

from __future__ import annotations

import asyncio
import gc
import sys
from typing import Any

import dspy
import pytest
from dspy.streaming import StatusMessage, StreamListener, messages

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer
from tests.streaming.programs import (
    PATIENCE,
    Answer,
    Plain,
    Review,
    Status,
    collect,
    listeners,
    lm_of,
    prediction,
    statuses,
    texts,
)
from tests.testing.dspy_world import ENGINES, VERSION

ALL = ("reasoning", "summary", "verdict", "advice")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter", "XMLAdapter"])
def test_several_listeners(server: LMServer, engine: Any, adapter: str) -> None:
    """Every field of every call, as a whole, and as from the same program without the bridge."""
    server.configure(words=30)

    def stream(program: Any, **options: Any) -> Any:
        given = [StreamListener(signature_field_name=name) for name in ALL if name != "summary"]
        given.append(StreamListener("summary", predict=program.summarize.predict, predict_name="summarize"))
        return dspy.streamify(program, stream_listeners=given, **options)

    async def read(program: Any, **options: Any) -> Any:
        with dspy.context(lm=lm_of(server, engine), adapter=getattr(dspy, adapter)()):
            return await collect(stream(program, **options)(text="t"))

    found, plain = asyncio.run(read(Review())), asyncio.run(read(Plain()))
    assert prediction(found).toDict() == prediction(plain).toDict()
    assert texts(found) == texts(plain)
    assert prediction(found).verdict in texts(found)["verdict"]  # as JSON, with quotes
    assert len(found) > 40, "tokens come one by one"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hundred_streams_of_one_streamified_program(server: LMServer, engine: str | None) -> None:
    """Upstream the listeners' state is shared: tokens of one call end up in another, or nowhere."""
    server.configure(gate=100, words=20)
    stream = dspy.streamify(
        Answer(), stream_listeners=listeners("answer"), status_message_provider=Status(), is_async_program=True
    )

    async def main() -> Any:
        with dspy.context(lm=lm_of(server, engine)):
            runs = (collect(stream(question=f"Question {n}")) for n in range(100))
            return await asyncio.wait_for(asyncio.gather(*runs), PATIENCE)

    found = asyncio.run(main())
    assert server.stats().peak_in_flight == 100
    for items in found:
        assert texts(items) == {"answer": prediction(items).answer}
        assert statuses(items) == ["status: asking"]
    assert len({prediction(items).answer for items in found}) == 100


def test_many_streams_with_several_listeners(server: LMServer) -> None:
    """Each call's tokens reach its own listener of the field that they belong to."""
    server.configure(words=10)
    given = [StreamListener(signature_field_name=name) for name in ALL if name != "summary"]
    program = Review()
    given.append(StreamListener("summary", predict=program.summarize.predict, predict_name="summarize"))
    stream = dspy.streamify(program, stream_listeners=given)

    async def main() -> Any:
        with dspy.context(lm=lm_of(server)):
            return await asyncio.gather(*(collect(stream(text=f"Text {n}")) for n in range(25)))

    for items in asyncio.run(main()):
        found = texts(items)
        assert set(found) == set(ALL)
        assert found["verdict"] == prediction(items).verdict


def test_a_streamified_program_can_be_called_again(server: LMServer) -> None:
    """Upstream the second call streams nothing."""
    stream = dspy.streamify(Answer(), stream_listeners=listeners("answer"))

    async def main() -> Any:
        with dspy.context(lm=lm_of(server)):
            return [await collect(stream(question=str(n))) for n in range(3)]

    for items in asyncio.run(main()):
        assert texts(items) == {"answer": prediction(items).answer}


def test_a_predictor_that_is_called_again_in_one_call(server: LMServer) -> None:
    @async_module
    class Twice(Answer):
        def forward(self, question: str) -> Any:
            return self.predict(question=f"again {self.predict(question=question).answer}")

    def stream(**options: Any) -> Any:
        return dspy.streamify(Twice(), stream_listeners=[StreamListener("answer", **options)])

    async def main(**options: Any) -> Any:
        with dspy.context(lm=lm_of(server)):
            return await collect(stream(**options)(question="q"))

    once, both = texts(asyncio.run(main()))["answer"], texts(asyncio.run(main(allow_reuse=True)))["answer"]
    assert both.startswith(once)
    assert len(both) > len(once)


def test_listeners_that_are_given_stay_as_they_are(server: LMServer) -> None:
    given = listeners("answer")
    stream = dspy.streamify(Answer(), stream_listeners=given)

    async def main() -> Any:
        with dspy.context(lm=lm_of(server)):
            return await collect(stream(question="q"))

    asyncio.run(main())
    assert given[0].predict_name == "predict", "found when streamified"
    assert not given[0].stream_start


def test_each_streamified_program_has_its_own_status_messages(server: LMServer) -> None:
    """Before DSPy 3.4 the provider of the first is that of all."""
    streams = [dspy.streamify(Answer(), status_message_provider=Status(name)) for name in ("one", "two")]

    async def main() -> Any:
        with dspy.context(lm=lm_of(server)):
            return [statuses(await collect(stream(question="q"))) for stream in streams]

    assert asyncio.run(main()) == [["one: asking"], ["two: asking"]]
    assert dspy.settings.callbacks == []


def test_errors_of_streamify_come_when_it_is_called() -> None:
    with pytest.raises(TypeError, match="unpack"):  # DSPy's own
        dspy.streamify(Answer(), stream_listeners=listeners("nowhere"))
    with pytest.raises(TypeError):
        dspy.streamify(Answer(), unknown=1)


def failures(exc: BaseException) -> list[BaseException]:
    """The exceptions in a group of groups; before DSPy 3.4, a stream's come like that."""
    return [leaf for part in exc.exceptions for leaf in failures(part)] if hasattr(exc, "exceptions") else [exc]


def test_the_programs_exception_reaches_the_consumer() -> None:
    class Trouble(Exception):
        pass

    @async_module
    class Fails(dspy.Module):
        def forward(self) -> None:
            raise Trouble("in forward")

    async def main() -> None:
        await collect(dspy.streamify(Fails())())

    with pytest.raises(BaseException) as caught:
        asyncio.run(main())
    assert [type(exc) for exc in failures(caught.value)] == [Trouble]
    assert VERSION < (3, 4) or type(caught.value) is Trouble


def test_tokens_come_while_the_program_runs(server: LMServer) -> None:
    """The first token is there although the second call has not been answered."""
    server.configure(words=10, hold=True)
    server.release(1)  # the first call
    stream = dspy.streamify(Review(), stream_listeners=listeners("reasoning"))

    async def main() -> None:
        with dspy.context(lm=lm_of(server)):
            running = stream(text="t")
            first = await running.__anext__()
            assert first.signature_field_name == "reasoning"
            rest = asyncio.ensure_future(collect(running))
            await server.await_for(held=1)
            assert not rest.done()
            await server.arelease()
            assert isinstance((await rest)[-1], dspy.Prediction)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_slow_consumer_slows_only_its_own_stream(server: LMServer) -> None:
    """One stream is not read on until all others have been read to their end."""
    server.configure(words=200)
    stream = dspy.streamify(Answer(), stream_listeners=listeners("answer"))

    async def main() -> None:
        with dspy.context(lm=lm_of(server)):
            slow = stream(question="slow")
            await slow.__anext__()
            for items in await asyncio.gather(*(collect(stream(question=str(n))) for n in range(20))):
                assert texts(items)["answer"] == prediction(items).answer
            rest = await collect(slow)
            assert prediction(rest).answer.endswith(texts(rest)["answer"])
            assert len(rest) > 50, "the stream has waited for its consumer"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


@pytest.mark.parametrize("how", ["aclose", "break", "cancel", "task", "sync"])
@pytest.mark.parametrize("engine", ENGINES)
def test_closing_a_stream_cancels_the_request(server: LMServer, engine: Any, how: str) -> None:
    """However the consumer leaves; upstream, a `break` cancels the consumer itself."""
    server.configure(words=2000, inter_token_delay=0.05)
    options = {"stream_listeners": listeners("answer"), "async_streaming": how != "sync"}
    stream = dspy.streamify(Answer(), **options)

    async def read(count: int = 3) -> Any:
        running = stream(question="q")
        for _ in range(count):
            await running.__anext__()
        return running

    async def main() -> None:
        with dspy.context(lm=lm_of(server, engine)):
            if how == "sync":
                generator = stream(question="q")
                await asyncio.to_thread(next, generator)
                generator.close()
            elif how == "aclose":
                await (await read()).aclose()
            elif how == "break":
                async for _ in stream(question="q"):
                    break
            elif how == "cancel":
                reader = asyncio.ensure_future(read(10_000))
                await server.await_for(in_flight=1)
                reader.cancel()
                await asyncio.wait([reader])
                assert reader.cancelled()
            else:
                running = await read()
                await asyncio.ensure_future(running.aclose())  # by another task
            gc.collect()
            await server.await_for(disconnects=1)
        assert asyncio.current_task() is not None
        await asyncio.sleep(0)  # and the consumer was not cancelled

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert server.stats().in_flight == 0
    assert server.stats().requests == 1


def test_a_stream_that_nobody_reads_makes_no_request(server: LMServer) -> None:
    async def main() -> None:
        with dspy.context(lm=lm_of(server)):
            await dspy.streamify(Answer())(question="q").aclose()

    asyncio.run(main())
    assert server.stats().requests == 0


def test_closing_some_of_many(server: LMServer) -> None:
    """Those that are read on lose nothing."""
    server.configure(words=300, replies=[{"match": "leave", "latency": 240.0}])  # whose last token nobody waits for
    stream = dspy.streamify(Answer(), stream_listeners=listeners("answer"))

    async def one(n: int) -> Any:
        if n % 2:
            return await collect(stream(question=f"Question {n}"))
        running = stream(question=f"Question {n} to leave")
        await running.__anext__()
        return await running.aclose()

    async def main() -> Any:
        with dspy.context(lm=lm_of(server)):
            return await asyncio.gather(*(one(n) for n in range(40)))

    for items in asyncio.run(asyncio.wait_for(main(), PATIENCE))[1::2]:
        assert texts(items)["answer"] == prediction(items).answer
    server.wait_for(in_flight=0)
    assert server.stats().disconnects == 20


def test_sync_streams(server: LMServer) -> None:
    stream = dspy.streamify(Answer(), stream_listeners=listeners("answer"), async_streaming=False)
    with dspy.context(lm=lm_of(server)):
        items = list(stream(question="q"))
    assert texts(items)["answer"] == prediction(items).answer


@async_module
class Chatty(dspy.Module):
    """Sends more messages than a stream holds."""

    def forward(self) -> Any:
        for n in range(50):
            messages.sync_send_to_stream(dspy.settings.send_stream, StatusMessage(str(n)))
        return dspy.Prediction(done=True)


def test_on_every_loop(run_here: Any, no_leaks: None) -> None:
    """Without HTTP: uvloop does not close while DSPy's clients keep connections open."""
    stream = dspy.streamify(Chatty())

    async def main() -> Any:
        left = stream()
        await left.__anext__()
        await left.aclose()
        return await collect(stream())

    items = run_here(main)
    assert statuses(items) == [str(n) for n in range(50)]
    assert prediction(items).done


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout is new in 3.11")
def test_a_timeout_around_a_stream(server: LMServer) -> None:
    """Which is over when the first token has come."""
    server.configure(words=2000, inter_token_delay=0.05)

    async def read() -> None:
        async with asyncio.timeout(None) as limit:
            stream = dspy.streamify(Answer(), stream_listeners=listeners("answer"))(question="q")
            await stream.__anext__()
            limit.reschedule(asyncio.get_running_loop().time())
            await collect(stream)

    async def main() -> None:
        with dspy.context(lm=lm_of(server)), pytest.raises(TimeoutError):
            await read()
        await server.await_for(disconnects=1)

    asyncio.run(main())
