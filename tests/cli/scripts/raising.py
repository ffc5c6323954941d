import dspy
import lm


class Careless(dspy.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = dspy.Predict("text -> summary"), dspy.Predict("text -> answer")

    def forward(self, text):
        first, second = self.first(text=text).summary, self.second(text=text).answer
        return {"known": lm}[first + second]


try:
    Careless()(text="a")
except KeyError as error:
    raise RuntimeError("not known") from error
