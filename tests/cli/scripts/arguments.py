import argparse
import sys

from lm import Summaries

parser = argparse.ArgumentParser()
parser.add_argument("text")
parser.add_argument("--limit", type=int)
print(parser.parse_args(), __name__, __file__.endswith("arguments.py"), sys.argv[1:], sys.path[0].endswith("scripts"))
print(Summaries()(text="a").answer)
