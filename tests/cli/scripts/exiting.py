import sys

from lm import Summaries

print(Summaries()(text="a").answer)
sys.exit("said at the end")
