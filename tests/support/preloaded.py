"""Python processes that have DSPy, LiteLLM and LangGraph imported already: forks of one that has done nothing else.

Those imports take five seconds of computing, most tests that need a process of their own a tenth of one. A fork ends as
any process does: with functions of `atexit`, threads that are waited for, and the interpreter's end. What is about the
imports themselves, or about options of the interpreter, is tested in a process that `sys.executable` starts.

`python preloaded.py -c PROGRAM …`, `-m MODULE …` and `SCRIPT …` are as of `python`, with the caller's files, folder and
environment; signals get to the fork.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

ADDRESS = "DSPY_PARALLEL_TESTS_PRELOADED"
"""The environment's variable with the path of the socket."""

IMPORTS = "dspy", "litellm", "langgraph.graph", "langgraph.checkpoint.sqlite.aio"


def received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def ask() -> None:
    """Have the arguments run in a fork, and end as it does."""
    import json

    forked = 0
    early: list[int] = []

    def forward(number: int, _: Any) -> None:
        if forked:
            os.kill(forked, number)
        else:
            early.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ[ADDRESS])
        asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
        socket.send_fds(connection, [len(asked).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(asked)
        forked = int.from_bytes(received(connection, 4), "big")
        for missed in early:
            os.kill(forked, missed)
        status = received(connection, 4)
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "big"))
    if code < 0:
        if code != -signal.SIGKILL:  # whose handler can't be set
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def fork_for_each(listener: socket.socket) -> Any:
    """Returns in forks only, with what is to be run there: arguments, folder and environment.

    Ends when its stdin does, and ends a fork that nobody waits for.
    """
    import contextlib
    import gc
    import importlib
    import json
    import select

    forks: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    parent = os.dup(0)
    has_imported = False
    while True:
        sources: list[Any] = [listener, woken, parent, *forks.values()]
        ready = select.select(sources, [], [])[0]
        if parent in ready:
            for fork in forks:
                os.kill(fork, signal.SIGKILL)
            os._exit(0)
        if woken in ready:
            os.read(woken, 4096)
            while forks and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with forks.pop(ended[0]) as connection, contextlib.suppress(OSError):
                    connection.sendall(ended[1].to_bytes(4, "big"))
        for fork, connection in forks.items():
            if connection in ready:
                os.kill(fork, signal.SIGKILL)
        if listener in ready:
            if not has_imported:
                for name in IMPORTS:
                    with contextlib.suppress(ImportError):
                        importlib.import_module(name)
                has_imported = True
                gc.collect()
                gc.freeze()
            connection, _ = listener.accept()
            size, files, *_ = socket.recv_fds(connection, 4, 3)
            asked = received(connection, int.from_bytes(size, "big"))
            if fork := os.fork():
                connection.sendall(fork.to_bytes(4, "big"))
                forks[fork] = connection
            else:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number, file in enumerate(files):
                    os.dup2(file, number)
                for each in (listener, connection, *forks.values()):
                    each.close()
                for file in (*files, woken, wake, parent):
                    os.close(file)
                return json.loads(asked)
            for file in files:
                os.close(file)


def become(arguments: list[str], folder: str, environment: dict[str, str], path: list[str]) -> None:
    """Do what `python` with these arguments does."""
    import atexit
    import builtins
    import faulthandler
    import runpy
    import types

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "PYTHONFAULTHANDLER" in environment:
        faulthandler.enable()
    # New ones: what was there knows of the files of the process that was forked whether they can be sought in.
    for number, (name, mode) in enumerate({"stdin": "r", "stdout": "w", "stderr": "w"}.items()):
        before = getattr(sys, name)
        stream: Any = open(number, mode, encoding=before.encoding, errors=before.errors, closefd=False)  # noqa: SIM115
        if name == "stderr" or (name == "stdout" and "PYTHONUNBUFFERED" in environment):
            stream.reconfigure(line_buffering=True)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    kind = arguments[0] if arguments[0] in ("-c", "-m") else ""
    first = {"-c": "", "-m": folder, "": os.path.dirname(os.path.abspath(arguments[0]))}[kind]
    sys.path[:] = [first, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *path]
    interrupted = False

    def end_as_interrupted() -> None:
        if interrupted:
            sys.stdout.flush()
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)

    atexit.register(end_as_interrupted)
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    vars(main)["__builtins__"] = builtins
    try:
        if kind == "-m":
            sys.argv[:] = arguments[1:]
            runpy._run_module_as_main(arguments[1])  # type: ignore[attr-defined]
        elif kind == "-c":
            sys.argv[:] = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec", dont_inherit=True), vars(main))
        else:
            sys.argv[:] = arguments
            main.__file__ = os.path.abspath(arguments[0])
            with open(main.__file__, encoding="utf-8") as script:
                exec(compile(script.read(), main.__file__, "exec", dont_inherit=True), vars(main))
    except SystemExit:
        raise
    except BaseException as exc:
        of_this_file = exc.__traceback__
        sys.excepthook(type(exc), exc.with_traceback(of_this_file and of_this_file.tb_next), exc.__traceback__)
        interrupted = isinstance(exc, KeyboardInterrupt)
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1] != "--listen":
        ask()
    del sys.path[0]  # this file's folder
    arguments, folder, environment = fork_for_each(socket.socket(fileno=int(sys.argv[2])))
    become(arguments, folder, environment, sys.path[:])
