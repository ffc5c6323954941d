"""An async generator, as for a stream: its code runs on the event loop, too."""

import dspy

predict = dspy.Predict("question -> answer")


async def target(questions):
    for question in questions:
        yield predict(question=question).answer  # flaw: blocks-loop
