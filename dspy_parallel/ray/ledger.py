"""What became of rows, kept in one actor: results of finished ones, for when the worker that finished them dies.

Ray runs a dead worker's tasks again, each from its beginning. Rows that the ledger has are not run again.
"""

from __future__ import annotations

import importlib
import sqlite3
import threading
from collections.abc import Iterable
from typing import Any

__all__ = ["Ledger"]

EVERY_SECONDS = 0.5


class Ledger:
    """The actor. Its memory does not grow with the number of rows: results are in a temporary file.

    Args:
        title: What the progress bar is called; None for no bar.
    """

    def __init__(self, title: str | None) -> None:
        # "": a private file that SQLite deletes when it is closed.
        self._results = sqlite3.connect("", isolation_level=None)
        self._results.execute("PRAGMA journal_mode=OFF")
        self._results.execute("PRAGMA synchronous=OFF")
        self._results.execute("CREATE TABLE results (key BLOB PRIMARY KEY, result BLOB) WITHOUT ROWID")
        self._results.execute("BEGIN")
        self._numbers: dict[str, int] = {}
        self._finished = self._errors = self._tokens = 0
        self._title = title
        self._bar: Any = None
        self._timer: threading.Timer | None = None

    def enter(self, worker: str) -> int:
        """A number for a worker: the same when it is started again."""
        return self._numbers.setdefault(worker, len(self._numbers))

    def find(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The results that there are."""
        found: dict[bytes, bytes] = {}
        for key in keys:
            for (result,) in self._results.execute("SELECT result FROM results WHERE key = ?", (key,)):
                found[key] = result
        return found

    def note(self, finished: list[tuple[bytes, bytes]], errors: int, tokens: int) -> None:
        """Keep results, and count."""
        self._results.executemany("INSERT OR IGNORE INTO results VALUES (?, ?)", finished)
        self._finished += len(finished)
        self._errors += errors
        self._tokens += tokens
        if self._title is not None and self._timer is None:
            self._timer = threading.Timer(EVERY_SECONDS, self._draw)
            self._timer.daemon = True
            self._timer.start()

    def counts(self) -> dict[str, int]:
        """Rows that were finished and that failed, and tokens."""
        return {"finished": self._finished, "errors": self._errors, "tokens": self._tokens}

    def _draw(self) -> None:
        """In the timer's thread. Ray shows the bar where the driver runs."""
        self._timer = None
        if self._bar is None:
            bar = importlib.import_module("ray.experimental.tqdm_ray").tqdm
            self._bar = bar(unit="row", flush_interval_s=0.0)
        self._bar.n = self._finished + self._errors
        self._bar.set_description(f"{self._title}: {self._errors} errors, {self._tokens:,} tokens")
