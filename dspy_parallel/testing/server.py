"""`LMServer`: the loopback server's handle in the test's own process."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dspy_parallel.testing.control import ask, ask_async
from dspy_parallel.testing.errors import LMServerError, WaitTimeout
from dspy_parallel.testing.records import LoggedRequest, ServerStats

__all__ = ["LMServer"]

_PACKAGE = Path(__file__).resolve().parents[1]

_numbers = itertools.count(1)

#: What the child runs: ``python -m dspy_parallel.testing`` without the parent package's `__init__`, which imports
#: DSPy. That import takes five times as long as the rest of the start, and the server has no use for it.
_PROGRAM = f"""
import sys, types
package = types.ModuleType("dspy_parallel")
package.__path__ = [{str(_PACKAGE)!r}]
sys.modules["dspy_parallel"] = package
from dspy_parallel.testing.__main__ import main
sys.exit(main())
"""


class LMServer:
    """An OpenAI-compatible LM server on 127.0.0.1, in a process of its own, for tests and benchmarks.

    The process starts with `start()` or on entering the context, and ends with `stop()`, on leaving the context, at
    the interpreter's exit, or when this process dies. Methods may be called from any thread. They block the calling
    thread for the time of a loopback request; in coroutines use the twins whose names begin with ``a``, which use no
    thread at all.

    Args:
        latency: Seconds from receiving a request to sending its reply; a list of recorded latencies, replayed in
            order and from the start again; or a mapping of model names to either, with ``"*"`` for other models.
        replies: Rules for programmed replies, see the guide. A mapping is short for rules on the last user message.
        port: The port to listen on; 0 takes a free one.
        startup_timeout: Seconds to wait for the process to listen.
        **options: All other options of the server, see the guide: ``faults``, ``max_concurrency``, ``overflow``,
            ``requests_per_minute``, ``hold``, ``gate``, ``words``, ``log_bodies`` and more.

    Raises:
        SettingsError: On starting, if an option is unknown or wrong.
        LMServerError: On starting, if the process does not come up.

    Example:
        >>> with LMServer(latency=0.01) as server:
        ...     server.stats().requests
        0
    """

    def __init__(
        self,
        *,
        latency: float | Sequence[float] | Mapping[str, float | Sequence[float]] = 0.0,
        replies: Sequence[Mapping[str, Any]] | Mapping[str, Any] = (),
        port: int = 0,
        startup_timeout: float = 60.0,
        **options: Any,
    ) -> None:
        self._options = {"latency": latency, "replies": _plain(replies), **options}
        self._wanted_port = port
        self._startup_timeout = startup_timeout
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._number = next(_numbers)
        self._port = 0

    def start(self) -> LMServer:
        """Start the process and return when it listens; does nothing if it runs.

        Blocks the calling thread for the time a Python process needs to start.

        Returns:
            The server itself.

        Raises:
            LMServerError: If the process ends or does not listen in time; the message has what it wrote to stderr.
            SettingsError: If an option is unknown or wrong.

        Example:
            >>> server = LMServer().start()
            >>> server.stop()
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return self
            # A file, not a pipe: nobody has to read along for the process not to block on a full one.
            with tempfile.TemporaryFile() as stderr:
                process = _spawn(self._wanted_port, stderr)
                try:
                    self._port = _await_port(process, self._startup_timeout, stderr)
                    ask(self._port, "configure", self._options)
                except BaseException:
                    _end(process)
                    raise
            self._process, self._owner = process, os.getpid()
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the process; requests in flight are cut off. Calling it again does nothing.

        Safe from any thread. In a fork of the process that started the server it does nothing either.

        Example:
            >>> server = LMServer().start()
            >>> server.stop(); server.stop()
        """
        with self._lock:
            process, self._process = self._process, None
            if process is None or os.getpid() != self._owner:
                return
            atexit.unregister(self.stop)
            _end(process)

    def __enter__(self) -> LMServer:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; starts no process."""
        if self._process is None:
            raise LMServerError("The LM test server is not running. Use it as a context manager or call start().")
        return self._port

    @property
    def api_base(self) -> str:
        """The base URL to give to an LM client, such as ``http://127.0.0.1:40123/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """The process id, to measure the server's own CPU time."""
        if self._process is None:
            raise LMServerError("The LM test server is not running. Use it as a context manager or call start().")
        return self._process.pid

    def lm_kwargs(self) -> dict[str, Any]:
        """Keyword arguments that point a `dspy.LM` to this server.

        Returns:
            ``api_base`` and an ``api_key`` that the server does not look at.

        Example:
            >>> with LMServer() as server:
            ...     sorted(server.lm_kwargs())
            ['api_base', 'api_key']
        """
        # A key of its own: LiteLLM keeps its clients by base and key, and would use a connection to an earlier server
        # that had the same port.
        return {"api_base": self.api_base, "api_key": f"not-needed-{self._number}"}

    def configure(self, **options: Any) -> None:
        """Change options while the server runs; those not named stay as they are.

        Applies to requests that arrive later, except that ending a hold or raising a limit lets waiting requests go.

        Args:
            **options: As for the class.

        Raises:
            SettingsError: If one is unknown or wrong; then none is changed.

        Example:
            >>> with LMServer() as server:
            ...     server.configure(latency=0.2, faults=[{"kind": "429", "every": 3, "retry_after": 1}])
        """
        if "replies" in options:
            options["replies"] = _plain(options["replies"])
        ask(self.port, "configure", options)

    def stats(self) -> ServerStats:
        """The counts since the start or the last reset.

        Returns:
            A snapshot that does not change.

        Example:
            >>> with LMServer() as server:
            ...     server.stats().peak_in_flight
            0
        """
        return ServerStats.read(ask(self.port, "stats"))

    async def astats(self) -> ServerStats:
        """The counts since the start or the last reset, without blocking the loop.

        Suspends the task for a loopback request, in no thread. Can be cancelled.

        Returns:
            A snapshot that does not change.

        Example:
            >>> import asyncio
            >>> with LMServer() as server:
            ...     asyncio.run(server.astats()).requests
            0
        """
        return ServerStats.read(await ask_async(self.port, "stats"))

    def reset_stats(self) -> ServerStats:
        """Set all counts to zero, empty the log, and start ordinals, rules, faults and recorded latencies anew.

        What is in flight stays counted as in flight.

        Returns:
            The counts after the reset.

        Example:
            >>> with LMServer() as server:
            ...     server.reset_stats().requests
            0
        """
        return ServerStats.read(ask(self.port, "reset"))

    def restore(self) -> None:
        """Make the server as if it had just been started: the options of its construction, and nothing counted.

        Requests in flight are cut off, and open connections with them. Cheaper than a new process where tests share
        one; note that clients which pool connections by address then meet closed ones.

        Example:
            >>> with LMServer() as server:
            ...     server.configure(latency=60)
            ...     server.restore()
        """
        ask(self.port, "restore", self._options)

    def log(self) -> list[LoggedRequest]:
        """Every request since the start or the last reset, in order of arrival.

        Returns:
            The last 200,000 at most. Bodies are kept only if the option ``log_bodies`` is on.

        Example:
            >>> with LMServer() as server:
            ...     server.log()
            []
        """
        return [LoggedRequest.read(entry) for entry in ask(self.port, "log")["log"]]

    def release(self, count: int | None = None) -> None:
        """Let held requests pass.

        Args:
            count: How many requests may pass, those that wait first, then those to come. None ends the holding: all
                that wait pass, and later requests are not held.

        Example:
            >>> with LMServer(hold=True) as server:
            ...     server.release()
        """
        ask(self.port, "release", {"count": count})

    async def arelease(self, count: int | None = None) -> None:
        """Let held requests pass, without blocking the loop.

        Suspends the task for a loopback request, in no thread.

        Args:
            count: As for `release`.

        Example:
            >>> import asyncio
            >>> with LMServer(hold=True) as server:
            ...     asyncio.run(server.arelease(3))
        """
        await ask_async(self.port, "release", {"count": count})

    def wait_for(self, *, timeout: float = 30.0, **counts: int) -> ServerStats:
        """Block until each named statistic is at least the given value, or zero where zero is given.

        The server answers when it is so: there is no polling, and no moment is missed. Blocks the calling thread; on
        an event loop use `await_for`.

        Args:
            timeout: Seconds to wait at most.
            **counts: Names of number-valued statistics, or ``rejected`` for all rejections.

        Returns:
            The statistics at that moment.

        Raises:
            WaitTimeout: If the time is over; the message has the statistics.
            SettingsError: If there is no such statistic.

        Example:
            >>> with LMServer() as server:
            ...     server.wait_for(in_flight=0).in_flight
            0
        """
        answer = ask(self.port, "wait", {"counts": counts, "timeout": timeout}, timeout + 30)
        return _reached(answer, counts, timeout)

    async def await_for(self, *, timeout: float = 30.0, **counts: int) -> ServerStats:
        """Suspend the task until each named statistic is at least the given value, or zero where zero is given.

        Uses a connection on the running loop and no thread, so that it works where the default executor is exhausted.
        Can be cancelled.

        Args:
            timeout: Seconds to wait at most.
            **counts: As for `wait_for`.

        Returns:
            The statistics at that moment.

        Raises:
            WaitTimeout: If the time is over; the message has the statistics.
            SettingsError: If there is no such statistic.

        Example:
            >>> import asyncio
            >>> with LMServer() as server:
            ...     asyncio.run(server.await_for(in_flight=0)).in_flight
            0
        """
        answer = await ask_async(self.port, "wait", {"counts": counts, "timeout": timeout}, timeout + 30)
        return _reached(answer, counts, timeout)


def _plain(replies: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> Any:
    return dict(replies) if isinstance(replies, Mapping) else list(replies)


def _reached(answer: Any, counts: Mapping[str, int], timeout: float) -> ServerStats:
    stats = ServerStats.read(answer["stats"])
    if not answer["reached"]:
        wanted = ", ".join(f"{name}={value}" for name, value in counts.items())
        raise WaitTimeout(f"The LM test server did not reach {wanted} within {timeout:g} s; it is at {stats}.")
    return stats


def _spawn(port: int, stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start the server's process, importing this very package wherever it lies."""
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "--port", str(port), "--stop-with-stdin"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        # Ctrl-C is for the test: it still wants the server's statistics while it cleans up.
        start_new_session=True,
    )


def _await_port(process: subprocess.Popen[bytes], timeout: float, stderr: IO[bytes]) -> int:
    """Read the line that tells the port."""
    said: list[bytes] = []

    def read() -> None:
        assert process.stdout is not None
        said.append(process.stdout.readline())

    reader = threading.Thread(target=read, daemon=True, name="dspy-parallel-testing-start")
    reader.start()
    reader.join(timeout)
    in_time = bool(said)
    try:
        return int(json.loads(said[0])["port"])
    except (IndexError, ValueError, KeyError) as error:
        _end(process)
        reader.join(5)
        reason = f"ended with status {process.returncode}" if in_time else f"did not listen within {timeout:g} s"
        stderr.seek(0)
        complaint = stderr.read().decode(errors="replace").strip() or "(nothing)"
        raise LMServerError(f"The LM test server {reason}. Its stderr:\n{complaint}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process in order, or by force if it does not listen."""
    with contextlib.suppress(OSError):
        process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
