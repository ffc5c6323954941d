"""The resume file: one line of JSON for each finished example, appended before anybody sees the result.

A process killed at any moment leaves at worst one line without its end, at the end. It is never parsed as a result,
because a part of a JSON object is no JSON. Whoever opens the file next ends that line, and goes on behind it.

What is in the file is indexed in a temporary SQLite database, which keeps memory flat however long the file is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import sys
from typing import Any, cast

import dspy

from ..errors import ResumeError
from .values import decode, encode

if sys.platform != "win32":  # where two processes at the same file are not noticed
    import fcntl

__all__ = ["ResumeFile"]

FORMAT = 1


class ResumeFile:
    """The results of earlier runs, and where those of this one go.

    `claim()` and `find()` are called by one thread at a time, `append()` only on the loop's.

    Raises:
        ResumeError: If the file is in use, is not a resume file, or belongs to another program.
    """

    def __init__(self, path: str | os.PathLike[str], program: Any) -> None:
        self._path = os.fspath(path)
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        # "": a private file that SQLite deletes when it is closed. Nobody needs it to survive.
        self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        try:
            self._lock()
            self._index.execute("PRAGMA journal_mode=OFF")
            self._index.execute("PRAGMA synchronous=OFF")
            self._index.execute("CREATE TABLE claims (content BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
            self._index.execute("CREATE TABLE done (key TEXT PRIMARY KEY, start INTEGER, size INTEGER) WITHOUT ROWID")
            self._index.execute("BEGIN")
            self._read(_header(program))
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if sys.platform != "win32":
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResumeError(
                    f"{self._path} is in use by another batch. Wait for it to end, or give each its own file."
                ) from None

    def _read(self, header: dict[str, Any]) -> None:
        position, is_known, line = 0, False, b"\n"
        with open(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for line in file:
                entry = _parsed(line)
                if "dspy_parallel" in entry:
                    self._check(entry, header)
                    is_known = True
                elif isinstance(entry.get("key"), str) and "result" in entry:
                    row = (entry["key"], position, len(line))
                    self._index.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?)", row)
                position += len(line)
        # Killed within its very first line, it has no header yet.
        if position and not is_known and not (position == len(line) and _line(header).startswith(line)):
            raise ResumeError(f"{self._path} exists and is not a resume file. Choose another name.")
        if not line.endswith(b"\n"):
            self._write(b"\n")
        if not is_known:
            self._write(_line(header))

    def _check(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        for name, what in (("dspy_parallel", "format"), ("program", "program"), ("state", "state of the program")):
            if found.get(name) != header[name]:
                raise ResumeError(
                    f"{self._path} was written for another {what}: {found.get(name)!r}, not {header[name]!r}. Its "
                    "results would be mixed with this one's. Choose another file, or delete it to begin anew."
                )

    def claim(self, content: bytes) -> str:
        """The key of the next example with this content."""
        self._index.execute(
            "INSERT INTO claims VALUES (?, 1) ON CONFLICT (content) DO UPDATE SET times = times + 1", (content,)
        )
        ((times,),) = self._index.execute("SELECT times FROM claims WHERE content = ?", (content,))
        return f"{content.hex()}.{times - 1}"

    def find(self, key: str) -> tuple[int, int] | None:
        """Where the result of an earlier run is, if there is one; for `load()`."""
        return next(self._index.execute("SELECT start, size FROM done WHERE key = ?", (key,)), None)

    def load(self, where: tuple[int, int]) -> Any:
        """Read a result."""
        start, size = where
        return decode(_parsed(os.pread(self._fd, size, start))["result"])

    def append(self, key: str, index: int, result: Any) -> None:
        """Note that an example is finished; it is in the file when this returns.

        Raises:
            ResumeError: If the result cannot be written as JSON.
        """
        if self._fd < 0:
            raise ResumeError(f"Example {index} was done after its batch had ended: its result is lost.")
        self._write(_line({"key": key, "index": index, "result": encode(index, result)}))

    def _write(self, line: bytes) -> None:
        while line:  # normally once; a full disk or a signal may take a part
            line = line[os.write(self._fd, line) :]

    def close(self) -> None:
        """Let go of the file."""
        self._index.close()
        fd, self._fd = self._fd, -1  # first: the number may belong to another file at once
        os.close(fd)


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's content; nothing, if it is no JSON object."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}


def _described(value: Any) -> str:
    """For a demo's value that is no JSON: the same in every process."""
    return re.sub(r" at 0x\w+", "", repr(value))


def _header(program: Any) -> dict[str, Any]:
    """What tells whose results these are: the program's name, and what its predictors are told."""
    named = type(program) if isinstance(program, dspy.Module) else program
    name = f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(named).__qualname__)}"
    state = ""
    if isinstance(program, dspy.Module):
        # Not dump_state(): it has the LM, too, which may change, and not every LM can dump its own.
        predictors: list[tuple[str, Any]] = program.named_predictors()
        told = [
            (predictor_name, predictor.signature.dump_state(), [dict(demo.items()) for demo in predictor.demos])
            for predictor_name, predictor in predictors
        ]
        text = json.dumps(told, sort_keys=True, default=_described)
        state = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return {"dspy_parallel": FORMAT, "program": name, "state": state}
