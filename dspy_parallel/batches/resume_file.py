"""The resume file: one line of JSON for each finished example, appended before anybody sees the result.

A process killed at any moment leaves at worst one line without its end, at the end. It is never taken for a result,
because a part of a JSON object is no JSON. Whoever opens the file next takes it away, and goes on in its place. So
every other line is whole, or somebody has changed it: each holds a hash of what it says.

What is in the file is indexed in a temporary SQLite database, which keeps memory flat however long the file is.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
from typing import Any, cast

from ..errors import ResumeError
from .fingerprints import identity_of
from .json_forms import decode, encode

if sys.platform != "win32":  # where two processes at the same file are not noticed
    import fcntl

__all__ = ["ResumeFile"]

FORMAT = 2


class ResumeFile:
    """The results of earlier runs, and where those of this one go. Only its owner may read it.

    `claim()` and `find()` are called by one thread at a time, `append()` only on the loop's.

    Raises:
        ResumeError: If the file is in use, damaged, or no resume file, if it belongs to another program, or if the
            program cannot be told from others.
    """

    def __init__(self, path: str | os.PathLike[str], program: Any) -> None:
        header = _header(program)
        self._path = os.fspath(path)
        self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        # "": a private file that SQLite deletes when it is closed. Nobody needs it to survive.
        self._index = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        try:
            self._lock()
            self._index.execute("PRAGMA journal_mode=OFF")
            self._index.execute("PRAGMA synchronous=OFF")
            self._index.execute("CREATE TABLE claims (content BLOB PRIMARY KEY, times INTEGER) WITHOUT ROWID")
            self._index.execute(
                "CREATE TABLE done (key TEXT PRIMARY KEY, start INTEGER, size INTEGER, line INTEGER) WITHOUT ROWID"
            )
            self._index.execute("BEGIN")
            self._read(header)
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
        first = _line(header)
        position, line = 0, b""
        with open(os.dup(self._fd), "rb") as file:
            file.seek(0)
            for number, line in enumerate(file, 1):
                entry = _parsed(line)
                is_torn = not line.endswith(b"\n") and (entry is None or not _is_whole(entry))
                if is_torn and (position or first.startswith(line)):
                    line = b"\n"
                    break
                if number == 1 and (entry is None or "dspy_parallel" not in entry):
                    raise ResumeError(
                        f"{self._path} exists and is not a resume file: so says its line 1. Choose another name."
                    )
                if number == 1 and entry is not None and entry["dspy_parallel"] != FORMAT:
                    raise ResumeError(
                        f"{self._path} was written by another version of dspy_parallel, in another format: "
                        f"{entry['dspy_parallel']!r}, not {FORMAT}. Choose another file, or delete it to begin anew."
                    )
                if entry is None or not _is_whole(entry):
                    raise ResumeError(
                        f"Line {number} of {self._path} is damaged, or has been edited. Delete the line to have its "
                        "example run again, or choose another file."
                    )
                if "dspy_parallel" in entry:
                    self._check(entry, header)
                else:
                    row = (entry["key"], position, len(line), number)
                    self._index.execute("INSERT OR IGNORE INTO done VALUES (?, ?, ?, ?)", row)
                position += len(line)
        os.ftruncate(self._fd, position)
        if not position:
            self._write(first)
        elif not line.endswith(b"\n"):  # of the last, all but its end was written
            self._write(b"\n")

    def _check(self, found: dict[str, Any], header: dict[str, Any]) -> None:
        for name, what in (("program", "program"), ("parts", "state of the program")):
            if found[name] != header[name]:
                raise ResumeError(
                    f"{self._path} was written for another {what}: {_difference(found, header)}. Its results would be "
                    "mixed with this one's. Choose another file, or delete it to begin anew."
                )

    def claim(self, content: bytes) -> str:
        """The key of the next example with this content."""
        self._index.execute(
            "INSERT INTO claims VALUES (?, 1) ON CONFLICT (content) DO UPDATE SET times = times + 1", (content,)
        )
        ((times,),) = self._index.execute("SELECT times FROM claims WHERE content = ?", (content,))
        return f"{content.hex()}.{times - 1}"

    def find(self, key: str) -> tuple[int, int, int] | None:
        """Where the result of an earlier run is, if there is one; for `load()`."""
        return next(self._index.execute("SELECT start, size, line FROM done WHERE key = ?", (key,)), None)

    def load(self, where: tuple[int, int, int]) -> Any:
        """Read a result.

        Raises:
            ResumeError: If there is no such value any more.
        """
        start, size, number = where
        try:
            return decode(cast("dict[str, Any]", _parsed(os.pread(self._fd, size, start)))["result"])
        except Exception as exc:
            why = exc if isinstance(exc, ResumeError) else f"{type(exc).__name__}: {exc}"
            raise ResumeError(f"Line {number} of {self._path} cannot be read: {why}") from exc

    def append(self, key: str, index: int, result: Any) -> None:
        """Note that an example is finished; it is in the file when this returns.

        Raises:
            ResumeError: If the result cannot be written as JSON.
            OSError: If the file cannot be written.
        """
        if self._fd < 0:
            raise ResumeError(f"Example {index} was done after its batch had ended: its result is lost.")
        self._write(_line({"key": key, "index": index, "result": encode(index, result)}))

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            while line:  # normally once; a signal may take a part
                line = line[os.write(self._fd, line) :]
        except OSError:  # a full disk: what comes next must not stand behind half a line
            os.ftruncate(self._fd, size)
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._index.close()
        fd, self._fd = self._fd, -1  # first: the number may belong to another file at once
        os.close(fd)


def _header(program: Any) -> dict[str, Any]:
    """What tells whose results these are."""
    name, parts = identity_of(program)
    return {"dspy_parallel": FORMAT, "python": sys.version[:4].rstrip("."), "program": name, "parts": parts}


def _difference(found: dict[str, Any], header: dict[str, Any]) -> str:
    if found["program"] != header["program"]:
        return f"{found['program']!r}, not {header['program']!r}"
    names = [
        name for name in {**found["parts"], **header["parts"]} if found["parts"].get(name) != header["parts"].get(name)
    ]
    told = (
        ", ".join(names[:5])
        + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        + (" is not the same" if len(names) == 1 else " are not the same")
    )
    if found["python"] != header["python"] and any(name.startswith("the code of ") for name in names):
        told += f"; code that Python {found['python']} has compiled cannot be compared with that of {header['python']}"
    return told


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps({**entry, "check": _checked(entry)}, separators=(",", ":")).encode() + b"\n"


def _checked(entry: dict[str, Any]) -> str:
    """A hash of what a line says."""
    text = json.dumps(entry, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _is_whole(entry: dict[str, Any]) -> bool:
    content = {name: value for name, value in entry.items() if name != "check"}
    return ("key" in entry or "dspy_parallel" in entry) and entry.get("check") == _checked(content)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's content; None, if it is no JSON object."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", entry) if isinstance(entry, dict) else None
