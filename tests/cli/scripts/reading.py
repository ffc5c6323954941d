import sys

from lm import Summaries

for line in sys.stdin:
    print(Summaries()(text=line.strip()).answer)
print(input.__name__, "done", file=sys.stderr)
