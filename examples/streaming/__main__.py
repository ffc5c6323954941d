"""Three answers streamed at once; then a reader who leaves, and whose LM request is closed.

python -m examples.streaming
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import dspy
from dspy.streaming import StreamListener, StreamResponse

from dspy_parallel import async_module
from dspy_parallel.testing import LMServer


@async_module
class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question):
        return self.answer(question=question)


async def read(stream, question, most=None):
    """Print the answer's pieces as they come, as many as wanted."""
    count = 0
    async with aclosing(stream(question=question)) as items:
        async for item in items:
            if not isinstance(item, StreamResponse):
                continue
            print(f"{question:8} {item.chunk!r}", flush=True)
            count += 1
            if count == most:
                return


async def main() -> None:
    with LMServer(latency=1.0, words=12, gate=3) as server:  # begins to answer when three ask
        lm = dspy.LM("openai/any", cache=False, **server.lm_kwargs())
        with dspy.context(lm=lm):
            stream = dspy.streamify(Answer(), stream_listeners=[StreamListener("answer", allow_reuse=True)])
            await asyncio.gather(*(read(stream, question) for question in ("first", "second", "third")))
            print(f"at once: {server.stats().peak_in_flight}")
            await read(stream, "leaves", most=1)
            await server.await_for(disconnects=1)
            print("the reader left; the server saw the connection close")


if __name__ == "__main__":
    asyncio.run(main())
