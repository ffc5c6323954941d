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

from dspy_parallel.testing.control_channel import Address, ask, ask_async
from dspy_parallel.testing.lm_server_errors import LMServerError, WaitTimeout
from dspy_parallel.testing.server_stats import LoggedRequest, ServerStats

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
        **options: All other options of the server, see the guide: ``faults``, ``max_concurrency``,
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
        self._options = {"latency": latency, "replies": replies, **options}
        self._wanted_port = port
        self._startup_timeout = startup_timeout
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()
        self._number = next(_numbers)
        self._address = Address(0, "")

    def start(self) -> LMServer:
        """Start the process and return the server when it listens; does nothing if it runs.

        Raises:
            LMServerError: If the process ends or does not listen in time; the message has what it wrote to stderr.
            SettingsError: If an option is unknown or wrong.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return self
            # A file, not a pipe: nobody has to read along for the process not to block on a full one.
            with tempfile.TemporaryFile() as stderr:
                process = _spawn(self._wanted_port, stderr)
                try:
                    self._address = _await_address(process, self._startup_timeout, stderr)
                    ask(self._address, "configure", self._options)
                except BaseException:
                    _end(process)
                    raise
            self._process, self._owner = process, os.getpid()
            atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the process; requests in flight are cut off. Calling it again, or in a fork, does nothing."""
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

    def _running(self) -> Address:
        if self._process is None:
            raise LMServerError("The LM test server is not running. Use it as a context manager or call start().")
        return self._address

    @property
    def port(self) -> int:
        """The port on 127.0.0.1; starts no process."""
        return self._running().port

    @property
    def api_base(self) -> str:
        """The base URL to give to an LM client, such as ``http://127.0.0.1:40123/v1``."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def pid(self) -> int:
        """The process id, to measure the server's own CPU time."""
        self._running()
        assert self._process is not None
        return self._process.pid

    def lm_kwargs(self) -> dict[str, Any]:
        """Keyword arguments that point a `dspy.LM` to this server: ``api_base``, and an ``api_key`` nobody looks at."""
        # A key of its own: LiteLLM keeps its clients by base and key, and would use a connection to an earlier server
        # that had the same port.
        return {"api_base": self.api_base, "api_key": f"not-needed-{self._number}"}

    def configure(self, **options: Any) -> None:
        """Change options while the server runs; those not named stay as they are.

        Applies to requests that arrive later, except that ending a hold lets waiting requests go.

        Args:
            **options: As for the class.

        Raises:
            SettingsError: If one is unknown or wrong; then none is changed.
        """
        ask(self._running(), "configure", options)

    def stats(self) -> ServerStats:
        """The counts since the start or the last reset: a snapshot that does not change."""
        return ServerStats(**ask(self._running(), "stats"))

    async def astats(self) -> ServerStats:
        """The counts since the start or the last reset, without blocking the loop, and in no thread."""
        return ServerStats(**await ask_async(self._running(), "stats"))

    def reset_stats(self) -> ServerStats:
        """Set all counts to zero, empty the log, and start ordinals, rules, faults and recorded latencies anew.

        What is in flight stays counted as in flight.

        Returns:
            The counts after the reset.
        """
        return ServerStats(**ask(self._running(), "reset"))

    def restore(self) -> None:
        """Make the server as if it had just been started: the options of its construction, and nothing counted.

        Requests in flight are cut off, and open connections with them. Cheaper than a new process where tests share
        one; note that clients which pool connections by address then meet closed ones.
        """
        ask(self._running(), "restore", self._options)

    def log(self) -> list[LoggedRequest]:
        """Every request since the start or the last reset, in order of arrival: the last 200,000 at most.

        Bodies are kept only if the option ``log_bodies`` is on.
        """
        return [LoggedRequest(**entry) for entry in ask(self._running(), "log")["log"]]

    def release(self, count: int | None = None) -> None:
        """Let held requests pass.

        Args:
            count: How many requests may pass, those that wait first, then those to come. None ends the holding: all
                that wait pass, and later requests are not held.
        """
        ask(self._running(), "release", {"count": count})

    async def arelease(self, count: int | None = None) -> None:
        """Let held requests pass, as `release` does, without blocking the loop, and in no thread."""
        await ask_async(self._running(), "release", {"count": count})

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
        """
        answer = ask(self._running(), "wait", {"counts": counts, "timeout": timeout}, timeout + 30)
        return _reached(answer, counts, timeout)

    async def await_for(self, *, timeout: float = 30.0, **counts: int) -> ServerStats:
        """Suspend the task until each named statistic is as wanted; arguments, result and errors are `wait_for`'s.

        Uses a connection on the running loop and no thread, so that it works where the default executor is exhausted.
        Can be cancelled.
        """
        answer = await ask_async(self._running(), "wait", {"counts": counts, "timeout": timeout}, timeout + 30)
        return _reached(answer, counts, timeout)


def _reached(answer: Any, counts: Mapping[str, int], timeout: float) -> ServerStats:
    stats = ServerStats(**answer["stats"])
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


def _await_address(process: subprocess.Popen[bytes], timeout: float, stderr: IO[bytes]) -> Address:
    """Read the line that tells it."""
    said: list[bytes] = []
    pipe = process.stdout
    reader = threading.Thread(target=lambda: said.append(pipe.readline() if pipe else b""), daemon=True)
    reader.start()
    reader.join(timeout)
    in_time = bool(said)
    try:
        ready = json.loads(said[0])
        return Address(int(ready["port"]), str(ready["token"]))
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
