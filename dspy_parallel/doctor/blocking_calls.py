"""Which calls block a thread, what the bridge does about them, and what async code would write.

One row for each kind of call, by the qualified names of what is called. `bridge` is what happens in a bridged
program: it `"suspend"`s, the call gets a `"thread"`, or it is `"left"`: nothing is patched and the thread blocks.
`docs/seams.md` has the same from the other side.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal

import dspy

from ..seams.patches import Patch
from .reading import Call
from .values import Known, Made, Method, class_of

__all__ = ["LOCK", "Blocker", "blocker_of", "is_dspys_own", "waits_for_others"]

Bridge = Literal["suspend", "thread", "left", "fails"]


@dataclass(frozen=True)
class Blocker:
    """Why a call blocks.

    Attributes:
        what: What it waits for.
        bridge: What becomes of it in a bridged program.
        instead: What to write in async code.
        is_lm: Whether it calls a language model.
    """

    what: str
    bridge: Bridge
    instead: str
    is_lm: bool = False


@dataclass(frozen=True)
class _Row:
    names: re.Pattern[str]
    blocker: Blocker


def _row(names: str, what: str, bridge: Bridge, instead: str) -> _Row:
    return _Row(re.compile(names), Blocker(what, bridge, instead))


_VERBS = r"(get|post|put|patch|delete|head|options|request|send|stream)"
_QUERIES = r"(execute|executemany|executescript|commit|fetchone|fetchall|fetchmany|callproc)"
_THREAD = "await asyncio.to_thread(...)"

LOCK = "a lock"

_ROWS = (
    _row(r"time\.sleep", "the clock", "suspend", "await asyncio.sleep(...)"),
    _row(
        rf"requests\.(api|sessions\.Session)\.{_VERBS}",
        "an HTTP reply",
        "thread",
        f"httpx.AsyncClient, or {_THREAD}",
    ),
    _row(rf"httpx\._(api|client\.Client)\.{_VERBS}", "an HTTP reply", "thread", "httpx.AsyncClient"),
    _row(r"urllib\.request\.(urlopen|urlretrieve|OpenerDirector\.open)", "an HTTP reply", "thread", _THREAD),
    _row(rf"urllib3\..*\.(urlopen|{_VERBS})", "an HTTP reply", "thread", _THREAD),
    _row(
        r"subprocess\.(run|call|check_call|check_output|getoutput|getstatusoutput|Popen\.(wait|communicate))",
        "a subprocess",
        "thread",
        "await asyncio.create_subprocess_exec(...)",
    ),
    _row(r"(os|posix|nt)\.system", "a subprocess", "left", "await asyncio.create_subprocess_shell(...)"),
    _row(r"builtins\.input", "somebody at the keyboard", "left", _THREAD),
    _row(r"concurrent\.futures\._base\.(Future\.(result|exception)|wait|as_completed)", "a thread", "suspend", _THREAD),
    _row(r"concurrent\.futures\._base\.Executor\.map", "threads", "suspend", _THREAD),
    _row(r"threading\.Thread\.join", "a thread", "suspend", _THREAD),
    _row(r"(_queue\.SimpleQueue|queue\.\w*Queue)\.(get|put|join)", "a queue", "left", "asyncio.Queue"),
    _row(r"threading\.(Event|Condition|Barrier)\.(wait|wait_for)", "another thread", "left", "asyncio.Event"),
    _row(r"(_thread\.\w*(lock|RLock)|threading\.\w*Semaphore)\.acquire", LOCK, "left", "asyncio.Lock"),
    _row(rf"_?sqlite3\.(connect|(Connection|Cursor)\.{_QUERIES})", "a database", "left", "aiosqlite"),
    _row(rf"psycopg2?\..*(connect|{_QUERIES})", "a database", "left", "psycopg.AsyncConnection"),
    _row(rf"(pymysql|MySQLdb|mysql\.connector)\..*(connect|{_QUERIES})", "a database", "left", "an async driver"),
    _row(
        r"neo4j\._sync\..*\.(run|execute_query|execute_read|execute_write)", "a database", "left", "AsyncGraphDatabase"
    ),
    _row(
        r"sqlalchemy\.orm\.session\.Session\.(execute|scalars?|query|get|commit|flush)",
        "a database",
        "left",
        "AsyncSession",
    ),
    _row(r"sqlalchemy\.engine\.base\.Connection\.(execute|scalars?|commit)", "a database", "left", "AsyncConnection"),
    _row(r"pymongo\.synchronous\..*", "a database", "left", "pymongo.AsyncMongoClient"),
    _row(r"redis\.(client|commands)\..*", "a database", "left", "redis.asyncio"),
    _row(r"botocore\..*", "AWS", "left", f"aioboto3, or {_THREAD}"),
    _row(
        r"socket\.(create_connection|socket\.(connect|accept|recv|sendall))", "the network", "left", "asyncio streams"
    ),
    _row(r"_socket\.socket\.(connect|accept|recv|sendall)", "the network", "left", "asyncio streams"),
    _row(r"litellm\.main\.(completion|embedding|text_completion)", "a language model", "thread", "litellm.acompletion"),
    _row(r"openai\.resources\.(?!.*Async).*\.(create|parse)", "a language model", "thread", "openai.AsyncOpenAI"),
    _row(r"anthropic\.resources\.(?!.*Async).*\.(create|stream)", "a language model", "thread", "AsyncAnthropic"),
    _row(
        r"asyncio\.runners\.(run|Runner\.run)|asyncio\.base_events\.BaseEventLoop\.run_until_complete",
        "an event loop of its own",
        "thread",
        "await the coroutine",
    ),
)


def blocker_of(call: Call) -> Blocker | None:
    """Why a call blocks its thread; None if it doesn't, or if that can't be told."""
    if call.is_awaited:
        return None
    return _of_dspy(call) or _of_langchain(call) or _by_name(call)


def waits_for_others(call: Call) -> bool:
    """Whether the program waits in the call while others could go on: it is awaited, or asks a language model."""
    blocker = blocker_of(call)
    return call.is_awaited or (blocker is not None and blocker.is_lm)


def _of_dspy(call: Call) -> Blocker | None:
    callee, cls = call.callee, class_of(call.callee)
    if isinstance(callee, (Known, Made)) and cls is not None and not isinstance(callee, type):
        if isinstance(callee, Known) and isinstance(callee.value, type):
            return None
        if issubclass(cls, (dspy.Module, dspy.BaseLM, dspy.Embedder, dspy.Retrieve)):
            if issubclass(cls, dspy.Module) and not is_dspys_own(cls):
                return None  # what it does is read
            return Blocker("a language model", "suspend", f"await {call.text}.acall(...)", is_lm=True)
        if issubclass(cls, dspy.Parallel):
            return Blocker("threads that call language models", "thread", "asyncio.gather(...)", is_lm=True)
        if issubclass(cls, dspy.Tool):
            return Blocker("a tool", "thread", f"await {call.text}.acall(...)")
    if isinstance(callee, Method) and getattr(callee.function, "__name__", "") == "forward":
        owner = class_of(callee.owner)
        is_modules = owner is not None and issubclass(owner, dspy.Module) and is_dspys_own(owner)
        if is_modules or (owner is not None and issubclass(owner, dspy.BaseLM)):
            return Blocker(
                "a language model", "suspend", f"await {call.text.rpartition('.')[0]}.acall(...)", is_lm=True
            )
    return None


def is_dspys_own(cls: type) -> bool:
    """Whether a module does what DSPy has written, and not the user."""
    forward: Any = getattr(cls, "forward", None) or cls.__call__
    return str(getattr(forward, "__module__", "")).startswith("dspy.")


_SYNC = {"invoke": "ainvoke", "stream": "astream", "batch": "abatch"}


def _of_langchain(call: Call) -> Blocker | None:
    name = call.text.rpartition(".")[2]
    if name not in _SYNC or not hasattr(call.node.func, "value"):
        return None
    owner = call.receiver
    if owner is None:
        # `invoke` is LangChain's word; the others are anybody's.
        is_runnable = name == "invoke"
    else:
        cls = class_of(owner)
        is_runnable = cls is not None and hasattr(cls, _SYNC[name])
    twin = f"{call.text.rpartition('.')[0]}.{_SYNC[name]}(...)"
    instead = f"async for ... in {twin}" if name == "stream" else f"await {twin}"
    return Blocker("a graph or model", "suspend", instead, is_lm=True) if is_runnable else None


def _by_name(call: Call) -> Blocker | None:
    for name in _names(call):
        for row in _ROWS:
            if row.names.fullmatch(name):
                if name == "time.sleep" and _escapes(call):
                    instead = "import time; time.sleep(...): a name imported with `from` is not patched"
                    return Blocker(row.blocker.what, "left", instead)
                return row.blocker
    return None


def _escapes(call: Call) -> bool:
    """Whether the plain function was imported by name, and for good, out of reach of the seam."""
    is_plain = not isinstance(getattr(call.callee, "value", None), Patch)
    return "." not in call.text and is_plain and not call.scope.is_imported_here(call.text)


def _names(call: Call) -> Iterator[str]:
    callee = call.callee
    if isinstance(callee, Method):
        if isinstance(callee.function, str):
            return
        cls, name = class_of(callee.owner), getattr(callee.function, "__name__", "")
        for base in cls.__mro__ if cls is not None else ():
            if name in vars(base):
                yield f"{base.__module__}.{base.__qualname__}.{name}"
    elif isinstance(callee, Known) and not isinstance(callee.value, type):
        function = callee.value
        module = getattr(function, "__module__", None)
        if module is None and not isinstance(function, FunctionType):
            # A method of a builtin type, already bound: `lock.acquire` kept in a variable.
            owner = type(getattr(function, "__self__", None))
            yield f"{owner.__module__}.{owner.__qualname__}.{getattr(function, '__name__', '')}"
        yield f"{module}.{getattr(function, '__qualname__', '')}"
