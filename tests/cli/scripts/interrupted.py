import os
import signal

from lm import Summaries

print(Summaries()(text="a").answer, flush=True)
os.kill(os.getpid(), signal.SIGINT)
