"""An async generator: its code runs on the event loop, too."""

import dspy

predict = dspy.Predict("question -> answer")
lm = dspy.LM("openai/any")


async def answers(questions):
    for question in questions:
        yield predict.__call__(question=question).answer  # flaw: blocks-loop
        yield lm.forward(prompt=question)  # flaw: blocks-loop
