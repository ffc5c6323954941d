"""Calls of predictors and LMs that are not written as such."""

import dspy

predict = dspy.Predict("question -> answer")
lm = dspy.LM("openai/any")


async def target(question):
    first = predict.__call__(question=question)  # flaw: blocks-loop
    second = dspy.settings.lm(question)  # flaw: blocks-loop
    third = lm.forward(prompt=question)  # flaw: blocks-loop
    return first, second, third, await dspy.settings.lm.acall(question)
