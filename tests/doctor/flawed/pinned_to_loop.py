"""A program pinned to the loop that downloads, and leaves the waiting for a file to somebody at the keyboard."""

import urllib.request

import dspy

from dspy_parallel import async_module


@async_module(engine="loop")
class Fetch(dspy.Module):
    def __init__(self):
        super().__init__()
        self.predict = dspy.Predict("page -> title")

    def forward(self, url):
        page = urllib.request.urlopen(url).read()  # flaw: needs-thread
        name = input("Name? ")  # flaw: blocking-call
        return self.predict(page=str(page) + name)


target = Fetch()
