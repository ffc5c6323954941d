import asyncio

import dspy
from lm import Summaries


async def main():
    ask = dspy.Predict("question -> answer")
    return await asyncio.gather(*(ask.acall(question=str(n)) for n in range(3))), Summaries()(text="b")


found, other = asyncio.run(main())
print([each.answer for each in found], other.answer)
