"""The process's directory, variables, locale and numbers, changed for one run."""

import locale
import os
import socket
from os import chdir

import dspy
import numpy.random

from dspy_parallel import async_module


@async_module
class Work(dspy.Module):
    def forward(self, folder):
        chdir(folder)  # flaw: process-wide
        os.environ["FOLDER"] = folder  # flaw: process-wide
        os.environ.update(FOLDER=folder)  # flaw: process-wide
        del os.environ["FOLDER"]  # flaw: process-wide
        return dspy.Predict("folder -> answer")(folder=folder)


async def work(folder):
    os.putenv("FOLDER", folder)  # flaw: process-wide
    locale.setlocale(locale.LC_ALL, folder)  # flaw: process-wide
    socket.setdefaulttimeout(3)  # flaw: process-wide
    numpy.random.seed(7)  # flaw: process-wide
