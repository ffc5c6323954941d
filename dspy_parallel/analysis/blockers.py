"""Which calls block a thread, what the bridge does about them, and what async code would write.

One row for each kind of call, by the qualified names of what is called. `docs/seams.md` has the same from the other
side.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import dspy
from dspy.teleprompt import Teleprompter

__all__ = ["LOCK", "Blocker", "blocker_of", "is_dspys_own"]

Bridge = Literal["suspend", "thread", "left", "bound", "file"]


@dataclass(frozen=True)
class Blocker:
    """Why a call blocks.

    Attributes:
        what: What it waits for.
        bridge: What becomes of it in a bridged program: it is made to `"suspend"`, it gets a `"thread"`, or it blocks
            the program's own thread: a `"file"` for a moment, a call to an object that may be `"bound"` to the thread
            that has made it, and what is `"left"`.
        instead: What to write in async code.
        is_lm: Whether it calls a language model.
    """

    what: str
    bridge: Bridge
    instead: str
    is_lm: bool = False


_VERBS = r"(get|post|put|patch|delete|head|options|request|send|stream)"
_QUERIES = r"(connect|cursor|execute|executemany|executescript|commit|fetchone|fetchall|fetchmany|callproc|query)"
_THREAD = "await asyncio.to_thread(...)"
_STREAMS = "asyncio streams"

LOCK = "a lock"

_TABLE: tuple[tuple[str, str, Bridge, str], ...] = (
    (r"time\.sleep", "the clock", "suspend", "await asyncio.sleep(...)"),
    (rf"requests\.(api|sessions\.Session)\.{_VERBS}", "an HTTP reply", "thread", f"httpx.AsyncClient, or {_THREAD}"),
    (rf"httpx\.(_api\.|(_client\.)?Client\.)?{_VERBS}", "an HTTP reply", "thread", "httpx.AsyncClient"),
    (r"urllib\.request\.(urlopen|urlretrieve|OpenerDirector\.open)", "an HTTP reply", "thread", _THREAD),
    (rf"urllib3\..*\.(urlopen|{_VERBS})", "an HTTP reply", "thread", _THREAD),
    (
        r"subprocess\.(run|call|check_call|check_output|getoutput|getstatusoutput|Popen\.(wait|communicate))",
        *("a subprocess", "thread", "await asyncio.create_subprocess_exec(...)"),
    ),
    (r"(os|posix|nt)\.system", "a subprocess", "left", "await asyncio.create_subprocess_shell(...)"),
    (r"input", "somebody at the keyboard", "left", _THREAD),
    (r"concurrent\.futures\._base\.(Future\.(result|exception)|wait|as_completed)", "a thread", "suspend", _THREAD),
    (r"concurrent\.futures\.(_base\.Executor|thread\.\w+|process\.\w+)\.map", "threads", "suspend", _THREAD),
    (r"multiprocessing\.pool\.\w+\.(apply|map|starmap|imap\w*|get|wait|join)", "other processes", "left", _THREAD),
    (r"threading\.Thread\.join", "a thread", "suspend", _THREAD),
    (r"(_queue\.SimpleQueue|queue\.\w*Queue)\.(get|put|join)", "a queue", "left", "asyncio.Queue"),
    (r"threading\.(Event|Condition|Barrier)\.(wait|wait_for)", "another thread", "left", "asyncio.Event"),
    (r"(_thread\.\w*(lock|RLock)|threading\.\w*(Semaphore|Condition))\.acquire", LOCK, "left", "asyncio.Lock"),
    (rf"_?sqlite3\.((Connection|Cursor)\.)?{_QUERIES}", "a database", "bound", "aiosqlite"),
    (rf"psycopg2?\..*{_QUERIES}", "a database", "bound", "psycopg.AsyncConnection"),
    (rf"(pymysql|MySQLdb|mysql\.connector)\..*{_QUERIES}", "a database", "bound", "an async driver"),
    (r"neo4j\._sync\..*\.(run|execute_\w+)", "a database", "left", "AsyncGraphDatabase"),
    (
        r"sqlalchemy\.orm\.session\.Session\.(execute|scalars?|query|get|commit|flush)",
        *("a database", "bound", "AsyncSession"),
    ),
    (r"sqlalchemy\.engine\.base\.Connection\.(execute|scalars?|commit)", "a database", "bound", "AsyncConnection"),
    (r"pymongo\.synchronous\..*", "a database", "left", "pymongo.AsyncMongoClient"),
    (r"redis\.(client|commands)\..*", "a database", "left", "redis.asyncio"),
    (r"botocore\..*", "AWS", "left", f"aioboto3, or {_THREAD}"),
    (r"_?socket\.(create_connection|socket\.(connect|accept|recv|sendall))", "the network", "left", _STREAMS),
    (r"litellm\.main\.(completion|embedding|text_completion)", "a language model", "thread", "litellm.acompletion"),
    (r"openai\.(?!.*Async).*\.(create|parse)", "a language model", "thread", "openai.AsyncOpenAI"),
    (r"anthropic\.(?!.*Async).*\.(create|stream)", "a language model", "thread", "AsyncAnthropic"),
    (
        r"asyncio\.runners\.(run|Runner\.run)|asyncio\.base_events\.BaseEventLoop\.run_until_complete",
        *("an event loop of its own", "thread", "await the coroutine"),
    ),
    (r"_?io\.open|pathlib\.(_local\.)?Path\.(open|(read|write)_(text|bytes))", "a file", "file", _THREAD),
    (
        r"(shelve|gzip|bz2|lzma|tarfile|zipfile)\.(open|ZipFile)|pandas\..*read_\w+|dspy\..*\.BaseModule\.(save|load)",
        "a file",
        "file",
        _THREAD,
    ),
    (r"shutil\.(copy\w*|move|rmtree|make_archive|unpack_archive)", "files", "file", _THREAD),
)
_ROWS = [(re.compile(names), Blocker(what, bridge, instead)) for names, what, bridge, instead in _TABLE]
_THREADED = {"": (dspy.Parallel, dspy.Evaluate), "batch": (dspy.Module,), "compile": (Teleprompter,)}
"""By method, whose starts threads and waits for them."""
_TWINS = {"invoke": "ainvoke", "stream": "astream", "batch": "abatch"}


def blocker_of(cls: type | None, method: str, name: str, text: str) -> Blocker | None:
    """Why a call that is not awaited blocks its thread; None if it doesn't, or if that can't be told.

    Args:
        cls: The class of what is called, or whose method it is; None for a function, and if it isn't known.
        method: The method; empty for the object itself.
        name: The qualified name of what is called.
        text: What is called, as written.
    """
    found = _of_dspy(cls, method, text) or _of_langchain(cls, text)
    return found or next((blocker for names, blocker in _ROWS if name and names.fullmatch(name)), None)


def _of_dspy(cls: type | None, method: str, text: str) -> Blocker | None:
    if text == "dspy.settings.lm":
        cls = dspy.BaseLM
    if cls is not None and issubclass(cls, _THREADED.get(method.replace("__call__", ""), ())):
        return Blocker("threads that call language models", "thread", "asyncio.gather(...)", is_lm=True)
    if cls is None or method not in ("", "__call__", "forward"):
        return None
    called = text if not method else text.rpartition(".")[0]
    lm = Blocker("a language model", "suspend", f"await {called}.acall(...)", is_lm=True)
    if issubclass(cls, dspy.Module):
        return lm if is_dspys_own(cls) else None  # what the user's do is read
    if issubclass(cls, (dspy.BaseLM, dspy.Embedder)):
        return lm
    if issubclass(cls, (dspy.Retrieve, dspy.ColBERTv2)):
        return Blocker("a search", "thread", _THREAD)
    return Blocker("a tool", "thread", f"await {called}.acall(...)") if issubclass(cls, dspy.Tool) else None


def is_dspys_own(cls: type) -> bool:
    """Whether a module does what DSPy has written, and not the user."""
    forward: Any = getattr(cls, "forward", None) or cls.__call__
    return str(getattr(forward, "__module__", "")).startswith("dspy.")


def _of_langchain(cls: type | None, text: str) -> Blocker | None:
    owner, _, name = text.rpartition(".")
    if name not in _TWINS or not owner:
        return None
    # Of what is not known: `invoke` is LangChain's word; the others are anybody's.
    if not (hasattr(cls, _TWINS[name]) if cls is not None else name == "invoke"):
        return None
    twin = f"{owner}.{_TWINS[name]}(...)"
    instead = f"async for ... in {twin}" if name == "stream" else f"await {twin}"
    return Blocker("a graph or model", "suspend", instead, is_lm=True)
