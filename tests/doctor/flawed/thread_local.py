"""What a thread has for itself: written here, not there when the program is in another thread."""

import threading

import dspy

from dspy_parallel import async_module

state = threading.local()


@async_module
class Remember(dspy.Module):
    def forward(self, question):
        state.question = question  # flaw: thread-bound
        return threading.get_ident()  # flaw: thread-bound


async def recall():
    return state.question  # flaw: thread-bound
