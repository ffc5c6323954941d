"""Names that are bound at import, others than they had; calls that no seam suspends."""

from os import system
from queue import Queue as Line

import dspy

from dspy_parallel import async_module

waiting = Line()


@async_module
class Look(dspy.Module):
    def forward(self, question):
        system("true")  # flaw: blocking-call
        return waiting.get()  # flaw: blocking-call
