"""Who waits, in the order of their numbers; to leave from the middle costs no more than to come."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from .turns import Turn

__all__ = ["Entry", "Queue"]

Entry = tuple[int, int, Turn]
"""Number, arrival, turn: with equal numbers, who came first."""

_arrivals = itertools.count()


class Queue:
    """Turns by their numbers. Not thread-safe by itself."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._present: set[Turn] = set()

    def __len__(self) -> int:
        return len(self._present)

    def __iter__(self) -> Iterator[Turn]:
        return iter(list(self._present))  # they may leave meanwhile

    def push(self, number: int, turn: Turn) -> None:
        """Come in."""
        self._present.add(turn)
        heapq.heappush(self._heap, (number, next(_arrivals), turn))

    def first(self) -> Entry | None:
        """Whose turn it is."""
        while self._heap and self._heap[0][-1] not in self._present:
            heapq.heappop(self._heap)
        return self._heap[0] if self._heap else None

    def put_aside(self) -> Entry:
        """Take the first out for a moment; it is still counted."""
        return heapq.heappop(self._heap)

    def put_back(self, entry: Entry) -> None:
        """Undo that."""
        heapq.heappush(self._heap, entry)

    def remove(self, turn: Turn) -> None:
        """Leave. What is left in the heap goes when it comes to the top, or is half of it."""
        self._present.discard(turn)
        if len(self._heap) > 2 * len(self._present) + 8:
            self._heap = [entry for entry in self._heap if entry[-1] in self._present]
            heapq.heapify(self._heap)
