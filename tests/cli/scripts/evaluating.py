import dspy
from lm import Summaries

rows = [dspy.Example(text=str(n), answer="1").with_inputs("text") for n in range(6)]
evaluate = dspy.Evaluate(devset=rows, metric=lambda e, p, trace=None: len(p.answer) == 1, num_threads=2)
print(evaluate(Summaries()).score)
