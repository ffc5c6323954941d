"""In which order fibers may touch a mutable object: as in a compiler's dependence graph, kept per object at run time.

A read waits for the write before it (read after write). A write waits for the write before it (write after write) and
for the reads before it (write after read). Two reads wait for nothing. "Before" is program order: a fiber inherits
its parent's dependences as they were when it was started, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .thunks import Pending

__all__ = ["Dependences"]


class Dependence:
    """Who has announced to touch an object and has not done so yet."""

    __slots__ = ("readers", "writers")

    def __init__(self, writers: tuple[Pending, ...] = (), readers: tuple[Pending, ...] = ()) -> None:
        self.writers = writers
        self.readers = readers

    def before(self, *, writing: bool) -> list[Pending]:
        """Whom to wait for."""
        return [each for each in (*self.writers, *(self.readers if writing else ())) if not each.done]


class Dependences:
    """Those that one fiber knows of: its parent's when it was started, and its own children's."""

    __slots__ = ("_known", "_own")

    def __init__(self, parent: Dependences | None) -> None:
        # The object is kept with its dependence: another one could get its id.
        self._known: dict[int, tuple[Any, Dependence]] = {} if parent is None else parent._known.copy()
        self._own: list[Pending] = []

    def announce(self, result: Pending, reads: Iterable[Any], writes: Iterable[Any]) -> None:
        """A child looks into some boxes, and may change some, any time before its result is there.

        `items.append(slow(x)); return list(items)` would miss the item if the append did not announce its write.

        It may also leave them alone, and so be done before those that were announced earlier. In `if slow(x):
        items.append(x)` and then `if fast(y): items.append(y)`, who waited for the second `if` alone would miss x.
        """
        written = {id(box): box for box in writes}
        boxes = {**{id(box): box for box in reads}, **written}
        self._own = [*self.of_children(), *([result] if boxes else [])]
        for box in boxes.values():
            _, known = self._known.get(id(box), (box, _NONE))
            writers, readers = (
                tuple(each for each in some if not each.done) for some in (known.writers, known.readers)
            )
            is_written = id(box) in written
            found = ((*writers, result), readers) if is_written else (writers, (*readers, result))
            self._known[id(box)] = box, Dependence(*found)

    def take(self, child: Dependences) -> None:
        """A child is done, and has waited for nobody: what it knows is what this fiber knows."""
        self._known = child._known
        self._own += child._own

    @property
    def are_none(self) -> bool:
        """Whether nobody has announced to touch anything."""
        return not self._known

    def before(self, key: int, *, writing: bool) -> list[Pending]:
        """Whom to wait for before touching the object with this id."""
        known = self._known.get(key)
        return [] if known is None else known[1].before(writing=writing)

    def forget(self, key: int) -> None:
        """Drop what is over."""
        known = self._known.get(key)
        if known is not None and not known[1].before(writing=True):
            del self._known[key]

    def of_children(self) -> list[Pending]:
        """What this fiber's own children have yet to do; of what others have, its parent knows."""
        return [each for each in self._own if not each.done]


_NONE = Dependence()
