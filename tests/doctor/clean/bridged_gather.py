"""Many calls at once of a decorated module: its pools are as large as the process may have files open."""

import asyncio

import dspy

from dspy_parallel import async_module


@async_module
class Answer(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("question -> answer")
        self.predict.lm = dspy.LM("openai/any")

    def forward(self, question):
        return self.predict(question=question)


program = Answer()


async def target(question):
    return await asyncio.gather(*(program.acall(question=f"{question} {n}") for n in range(600)))
