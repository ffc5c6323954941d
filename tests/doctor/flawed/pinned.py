"""A program pinned to the loop that downloads, and waits for somebody at the keyboard."""

import urllib.request

import dspy

from dspy_parallel import async_module


@async_module(engine="loop")
class Fetch(dspy.Module):
    def forward(self, url):
        page = urllib.request.urlopen(url).read()  # flaw: needs-thread
        return str(page) + input("Name? ")  # flaw: blocking-call
