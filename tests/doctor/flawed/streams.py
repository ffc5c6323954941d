"""What everybody prints to, taken for one run; filters of warnings; random numbers of the whole process."""

import contextlib
import io
import random
import sys
import warnings

import dspy

from dspy_parallel import async_module


@async_module
class Quiet(dspy.Module):
    def forward(self, text):
        sys.stdout = io.StringIO()  # flaw: process-wide
        warnings.simplefilter("ignore")  # flaw: process-wide
        with contextlib.redirect_stderr(io.StringIO()):  # flaw: process-wide
            return dspy.Predict("text -> short")(text=text)


def sampled(items):
    random.seed(7)  # flaw: process-wide
    return random.choice(items)


async def sample(items):
    with warnings.catch_warnings():  # flaw: process-wide
        return sampled(items)
