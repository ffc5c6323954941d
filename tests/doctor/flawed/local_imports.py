"""Calls of what a function imports itself, by its own name or another."""

import dspy


async def answer(question):
    import time as clock
    from time import sleep

    sleep(0.1)  # flaw: blocks-loop
    clock.sleep(0.1)  # flaw: blocks-loop
    return await dspy.Predict("question -> answer").acall(question=fetch(question))


def fetch(question):
    import urllib.request
    from sqlite3 import connect

    rows = connect(":memory:")  # flaw: blocks-loop
    with urllib.request.urlopen(f"http://127.0.0.1/{question}") as page:  # flaw: blocks-loop
        return f"{page.read()} {rows}"
