"""Files that are read and written while others wait."""

import shelve
import shutil
from pathlib import Path

import dspy

from dspy_parallel import async_module


@async_module
class Note(dspy.Module):
    def forward(self, text):
        with open("/tmp/notes", "a") as file:  # flaw: blocking-call
            file.write(text)
        return dspy.Predict("text -> short")(text=Path("/tmp/notes").read_text())  # flaw: blocking-call


async def keep(path: str):
    shutil.copy(path, "/tmp/kept")  # flaw: blocks-loop
    shelve.open("/tmp/kept").close()  # flaw: blocks-loop
    dspy.Predict("text -> short").save(path)  # flaw: blocks-loop
