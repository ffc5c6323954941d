import atexit
import warnings

from lm import Summaries

atexit.register(lambda: print("at the end"))
warnings.warn("of its own", UserWarning, stacklevel=1)


def check(answer):
    raise ValueError(f"not {answer}")


check(Summaries()(text="a").answer)
