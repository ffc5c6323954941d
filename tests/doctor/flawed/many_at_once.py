"""What DSPy has for many examples, and for looking things up, in async code."""

import dspy

predict = dspy.Predict("question -> answer")
rows = [dspy.Example(question="?", answer="!").with_inputs("question")]
evaluate = dspy.Evaluate(devset=rows, metric=lambda row, found: row.answer == found.answer)
pages = dspy.ColBERTv2("http://127.0.0.1/")


async def improve():
    predict.batch(rows)  # flaw: blocks-loop
    pages("owls")  # flaw: blocks-loop
    better = dspy.BootstrapFewShot(metric=evaluate.metric).compile(predict, trainset=rows)  # flaw: blocks-loop
    return evaluate(better)  # flaw: blocks-loop
