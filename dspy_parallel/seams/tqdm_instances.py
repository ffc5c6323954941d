"""Progress bars of executors that start at the same time.

`dspy.Parallel` and `Evaluate` begin with `tqdm.tqdm._instances.clear()` (dspy/utils/parallelizer.py and
dspy/evaluate/evaluate.py), which takes away the bars that other runs have just made: tqdm adds a bar to the set in
`__new__`, and removes it again in `__init__` if it is not to be shown. In between, in a crowd, the set was cleared, and
`remove()` raised KeyError in the middle of somebody's program.
"""

from __future__ import annotations

import sys
from typing import Any
from weakref import WeakSet

from .table import Seam, register

__all__: list[str] = []


class _Instances(WeakSet[Any]):
    """The bars that there are: what is removed need not be there, and nobody clears while others count."""

    def remove(self, item: Any) -> None:
        """See `WeakSet`."""
        self.discard(item)

    def clear(self) -> None:
        """See `WeakSet`; under tqdm's lock, under which `_get_free_pos` iterates."""
        with sys.modules["tqdm.std"].tqdm.get_lock():
            super().clear()


def _tolerant(stock: Any) -> Any:
    return _Instances(stock)


register(Seam("tqdm.std:tqdm._instances", replacement=_tolerant))
