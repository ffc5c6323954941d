import atexit
import sys
import threading

from lm import Summaries

sys.excepthook = lambda kind, error, traceback: print("hooked:", kind.__name__, error)
threading.excepthook = lambda failed: print("in a thread:", failed.exc_value)
atexit.register(print, "at last")
atexit.register(print, "at the end")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise ValueError(Summaries()(text="a").answer)
