"""LM calls, as many as the input asks for: the LM replies when all of them are under way."""

import asyncio

import dspy

inputs = {"count": 600}


class Patient(dspy.LM):
    async def acall(self, *args, **kwargs):
        self.waiting = getattr(self, "waiting", 0) + 1
        self.all_are_here = getattr(self, "all_are_here", None) or asyncio.Event()
        if self.waiting == inputs["count"]:
            self.all_are_here.set()
        await self.all_are_here.wait()
        return ["done"]


lm = Patient("openai/any")


async def target(count):
    return await asyncio.gather(*(lm.acall(f"{n}?") for n in range(count)))  # flaw: connection-cap
