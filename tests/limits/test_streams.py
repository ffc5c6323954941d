"""Streams under a limit: tokens that were handed on are not sent again, and a place is held while it streams."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.streaming import StreamListener, StreamResponse

from dspy_parallel import limit, seams
from dspy_parallel.testing import LMServer
from tests.limits.programs import OnLoop, make_lm
from tests.testing.dspy_world import VERSION

NATIVE = importlib.util.find_spec("dspy.clients.execution") is not None
TEXT = "[[ ## answer ## ]]\none two three four five six seven eight nine ten\n\n[[ ## completed ## ]]"
WORDS = re.findall(r"\S*\s*", TEXT)


def streamed(lm: Any) -> tuple[str, list[str]]:
    """The tokens, and what became of it."""

    async def main() -> tuple[str, list[str]]:
        seams.install()
        stream = dspy.streamify(OnLoop(), stream_listeners=[StreamListener("answer")])
        texts, ends = [], []
        try:
            with dspy.context(lm=lm):
                async for item in stream(question="?"):
                    if isinstance(item, StreamResponse):
                        texts.append(item.chunk)
                    else:
                        ends.append("answered")
        except BaseException as exc:
            ends.append(type(getattr(exc, "exceptions", [exc])[0]).__name__)  # before DSPy 3.4 a group
        return "".join(texts), ends

    return asyncio.run(main())


@pytest.mark.skipif(not NATIVE, reason="engines came with 3.4")
@pytest.mark.parametrize("at", [0, 12])
def test_refused_within_the_stream(at: int) -> None:
    """Once a part has been handed on, the call fails as without a limit; before, it is queued again."""
    from dspy import lm15
    from dspy._vendor.lm15 import types

    class Engine:
        requests = 0

        async def stream(self, request: Any) -> AsyncIterator[Any]:
            self.requests += 1
            yield types.StreamStartEvent(id="1", model="m")
            for n, word in enumerate(WORDS):
                if self.requests == 1 and n == at:
                    raise lm15.RateLimitError("slow down", retry_after=0.01)
                yield types.StreamDeltaEvent(types.TextDelta(word))
            yield types.StreamEndEvent(finish_reason="stop", usage=types.Usage())

        async def complete(self, request: Any) -> Any:
            raise NotImplementedError

        async def aclose(self) -> None:
            pass

    class Blocking:
        def complete(self, request: Any) -> Any:
            raise NotImplementedError

        def stream(self, request: Any) -> Any:
            raise NotImplementedError

        def close(self) -> None:
            pass

    found = []
    for limited in (False, True):
        engine = Engine()
        lm = dspy.LM("openai/any", engine=Blocking(), async_engine=engine, cache=False, num_retries=2)
        if limited:
            limit(lm, max_in_flight=3)
        found.append((*streamed(lm), engine.requests))
    plain, limited = found
    assert plain == limited
    assert plain[1:] == ((["LMRateLimitError"], 1) if at else (["answered"], 2))


@pytest.mark.skipif(NATIVE, reason="from 3.4 on DSPy knows how far an attempt got")
@pytest.mark.parametrize("at", [0, 12])
def test_refused_within_litellms_stream(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with LiteLLM alone."""
    if VERSION < (3, 1) and not at:
        pytest.skip("DSPy 3.0 does not put together what it streamed in a second attempt")
    import litellm

    requests = 0

    async def acompletion(**options: Any) -> AsyncIterator[Any]:
        nonlocal requests
        requests += 1
        return chunks(requests)

    async def chunks(request: int) -> AsyncIterator[Any]:
        for n, word in enumerate(WORDS):
            if request == 1 and n == at:
                response: Any = SimpleNamespace(request=None, headers={"retry-after": "0.01"}, status_code=429)
                raise litellm.RateLimitError("slow down", "openai", "any", response)
            delta = litellm.types.utils.Delta(content=word, role="assistant")
            choice = litellm.types.utils.StreamingChoices(index=0, delta=delta)
            yield litellm.ModelResponseStream(choices=[choice], model="any")

    monkeypatch.setattr(litellm, "acompletion", acompletion)
    lm = dspy.LM("openai/any", cache=False, num_retries=2)
    plain = (*streamed(lm), requests)  # the first versions of DSPy try again with another adapter
    requests = 0
    limit(lm, max_in_flight=3)
    text, ends = streamed(lm)
    if at:
        assert (text, ends, requests) == plain
    else:
        assert (text.count("one two"), ends, requests) == (1, ["answered"], 2)


def test_a_stream_holds_its_place_until_it_is_over(server: LMServer) -> None:
    """The provider is serving it, however slowly it is read."""
    server.configure(words=200)
    lm = make_lm(server)
    held = limit(lm, max_in_flight=1)

    async def main() -> None:
        stream = dspy.streamify(OnLoop(), stream_listeners=[StreamListener("answer")])
        with dspy.context(lm=lm):
            async with aclosing(stream(question="slow")) as slow:
                await slow.__anext__()
                other = asyncio.create_task(OnLoop().acall(question="other"))
                while held.waiting != 1:
                    await asyncio.sleep(0)
                assert held.in_flight == 1
            assert (await asyncio.wait_for(other, 30)).answer
        with suppress(AttributeError):
            await lm.aclose()

    asyncio.run(main())
    assert (held.in_flight, held.waiting) == (0, 0)
