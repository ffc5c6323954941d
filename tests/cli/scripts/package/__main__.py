import os
import pickle
import sys

from lm import Summaries

from . import part


class Answer:
    pass


print(__name__, __package__, __spec__.name, part.__name__, sorted(vars()))
print(
    os.path.relpath(sys.argv[0]), sys.argv[1:], sys.path[0] == os.getcwd(), type(pickle.loads(pickle.dumps(Answer())))
)
sys.exit(Summaries()(text="a").answer)
