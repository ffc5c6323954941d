"""The module `__main__` itself: what is in it, and what others look up there."""

import doctest
import os
import pickle
import sys
from dataclasses import dataclass
from typing import get_type_hints

from lm import Summaries


@dataclass
class Answer:
    """
    >>> Answer("4").text
    '4'
    """

    text: "str"


if __name__ == "__main__":
    import __main__

    names = {name: type(value).__name__ for name, value in vars().items()}
    print(__doc__, sorted(names.items()), __main__.Answer is Answer, get_type_hints(Answer))
    print(sys.argv, os.path.basename(sys.path[0]), sys.warnoptions, __package__, __builtins__.len is len)
    answer = Answer(Summaries()(text="a").answer)
    print(doctest.testmod(), pickle.loads(pickle.dumps(answer)) == answer)
