"""Which locks are found, by the shape of the code that holds them; and that looking for them runs none of it."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types
import weakref
from collections import UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dspy_parallel.bridge import offload, references
from dspy_parallel.bridge.locks import HeldLock, held_locks, see_semaphores

FOUND: list[HeldLock] = []


def wait() -> None:
    """Where the program would wait."""
    FOUND.extend(held_locks(sys._getframe(1), ROOT))


ROOT: Any = None


def holds(program: Callable[[], Any]) -> list[HeldLock]:
    """What is found where the program waits, the second time that it runs."""
    global ROOT
    ROOT = sys._getframe()
    program()
    see_semaphores()
    FOUND.clear()
    program()
    return list(FOUND)


LOCK = threading.Lock()
LOCKS: dict[str, Any] = {"key": threading.Lock()}
MANY = {n: threading.Lock() for n in range(5000)}
MADE: defaultdict[str, Any] = defaultdict(threading.Lock)
NESTED = {"a": {"b": [threading.Lock()]}}
SLOTS = deque([threading.Semaphore(2)])
KEPT = threading.Lock()
WEAK = weakref.WeakValueDictionary({"key": KEPT})
POOL = [types.SimpleNamespace(lock=threading.Lock(), name=n) for n in range(3)]
POINT = types.SimpleNamespace(settings={"x": types.SimpleNamespace(lock=threading.Lock())})


def get_lock() -> Any:
    return LOCK


def lock_of(key: str) -> Any:
    return LOCKS[key]


@functools.lru_cache
def cached_lock(key: str) -> Any:
    return threading.Lock()


@functools.cache
def endless_lock(key: str) -> Any:
    return threading.Lock()


def remembered(key: str, _locks: dict[str, Any] = {"key": threading.Lock()}) -> Any:  # noqa: B006, B008 - as people do
    return _locks[key]


def decorated(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return fn(*args)

    return wrapper


@decorated
def decorated_lock() -> Any:
    return LOCK


def memoized(fn: Callable[..., Any]) -> Callable[..., Any]:
    cache: dict[Any, Any] = {}

    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        return cache.setdefault(args, fn(*args))

    return wrapper


@memoized
def memoized_lock(key: str) -> Any:
    return threading.Lock()


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    with LOCK:
        yield


@contextlib.contextmanager
def exclusive_by_helper(key: str) -> Iterator[None]:
    with lock_of(key):
        yield


def take() -> None:
    LOCK.acquire()


def give() -> None:
    LOCK.release()


class Exclusive:
    """A context manager that is made where it is entered."""

    def __init__(self, key: str) -> None:
        self.lock = LOCKS[key]

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: Any) -> None:
        self.lock.release()


class Guard:
    """One that is kept."""

    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner = threading.Lock()

    def __enter__(self) -> None:
        self._inner.acquire()

    def __exit__(self, *_: Any) -> None:
        self._inner.release()


GUARD = Guard()


class Base:
    inherited = threading.RLock()
    by_key: dict[str, Any] = {"key": threading.Lock()}


class Store(Base):
    __private = threading.Lock()
    shared = threading.Lock()

    def __init__(self) -> None:
        self.locks = {"key": threading.Lock()}
        self.made = defaultdict(threading.Lock)
        self.mine = UserDict({"key": threading.Lock()})
        self.pair = (threading.Lock(), "name")
        self._own = threading.Lock()
        self._stack = contextlib.ExitStack()

    @property
    def lock(self) -> Any:
        return self._own

    @functools.cached_property
    def late(self) -> Any:
        return threading.Lock()

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._own:
            yield

    def lock_of(self, key: str) -> Any:
        return self.locks[key]

    def class_attribute(self) -> None:
        with self.shared:
            wait()

    def private(self) -> None:
        with self.__private:
            wait()

    def inherited_rlock(self) -> None:
        with self.inherited:
            wait()

    def class_dict(self) -> None:
        with self.by_key["key"]:
            wait()

    @classmethod
    def of_the_class(cls) -> None:
        with cls.shared:
            wait()

    def in_a_dict(self) -> None:
        with self.locks["key"]:
            wait()

    def made_in_a_dict(self) -> None:
        with self.made["key"]:
            wait()

    def in_a_user_dict(self) -> None:
        with self.mine["key"]:
            wait()

    def in_a_tuple(self) -> None:
        with self.pair[0]:
            wait()

    def by_a_method(self) -> None:
        with self.lock_of("key"):
            wait()

    def by_a_property(self) -> None:
        with self.lock:
            wait()

    def by_a_cached_property(self) -> None:
        with self.late:
            wait()

    def by_a_context_manager(self) -> None:
        with self.exclusive():
            wait()

    def on_a_stack_of_its_own(self) -> None:
        with self._stack:
            self._stack.enter_context(exclusive())
            wait()


STORE = Store()


class Slotted:
    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def slot(self) -> None:
        with self.lock:
            wait()


def _class_by_name() -> None:
    with Store.shared:
        wait()


def _of_another_object() -> None:
    with STORE.lock_of("key"):
        wait()


def _property_of_another_object() -> None:
    with STORE.lock:
        wait()


def _manager_of_another_object() -> None:
    with STORE.exclusive():
        wait()


def _acquired_and_released() -> None:
    lock = lock_of("key")
    lock.acquire()
    try:
        wait()
    finally:
        lock.release()


def _acquired_by_a_helper() -> None:
    take()
    try:
        wait()
    finally:
        give()


def _further_out() -> None:
    with get_lock():
        _unaware()


def _unaware() -> None:
    wait()


def _closure() -> Callable[[], None]:
    locks = {"key": threading.Lock()}

    def program() -> None:
        with locks["key"]:
            wait()

    return program


def _stack_of_locks() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(MADE["stack"])
        wait()


def _stack_of_managers() -> None:
    with contextlib.ExitStack() as stack:
        for entered in (exclusive, exclusive):
            with contextlib.suppress(RuntimeError):
                stack.enter_context(entered() if not LOCK.locked() else contextlib.nullcontext())
        _with_what(stack)


def _with_what(stack: Any) -> None:
    wait()


def _stack_of_callbacks() -> None:
    with contextlib.ExitStack() as stack:
        lock = MADE["callback"]
        lock.acquire()
        stack.callback(lock.release)
        del lock
        wait()


def _manager_in_a_variable() -> None:
    manager = exclusive()
    with manager:
        wait()


def _generator_in_a_variable() -> None:
    def steps() -> Iterator[None]:
        with threading.Lock():  # nobody refers to it
            yield

    generator = steps()
    next(generator)
    wait()


def _in_an_except_clause() -> None:
    with get_lock():
        try:
            raise ValueError
        except ValueError:
            for _ in range(1):
                wait()


def _with(expression: str) -> Callable[[], None]:
    space: dict[str, Any] = {}
    exec(f"def program():\n    with {expression}:\n        wait()", globals(), space)
    return space["program"]


SHAPES: dict[str, Callable[[], Any]] = {
    "class attribute": STORE.class_attribute,
    "private class attribute": STORE.private,
    "class attribute of a base, an rlock": STORE.inherited_rlock,
    "class attribute, a dict": STORE.class_dict,
    "class method": Store.of_the_class,
    "class by name": _class_by_name,
    "slot": Slotted().slot,
    "dict": STORE.in_a_dict,
    "defaultdict": STORE.made_in_a_dict,
    "UserDict": STORE.in_a_user_dict,
    "tuple": STORE.in_a_tuple,
    "semaphore in a deque": _with("SLOTS[0]"),
    "global dict": _with('LOCKS["key"]'),
    "global defaultdict": _with('MADE["key"]'),
    "one of many": _with("MANY[4321]"),
    "nested": _with('NESTED["a"]["b"][0]'),
    "weak dict": _with('WEAK["key"]'),
    "attribute of an item": _with("POOL[2].lock"),
    "attribute of an item of an attribute": _with('POINT.settings["x"].lock'),
    "method": STORE.by_a_method,
    "property": STORE.by_a_property,
    "cached property": STORE.by_a_cached_property,
    "context manager method": STORE.by_a_context_manager,
    "stack in an attribute": STORE.on_a_stack_of_its_own,
    "method of another object": _of_another_object,
    "property of another object": _property_of_another_object,
    "context manager of another object": _manager_of_another_object,
    "helper": _with("get_lock()"),
    "helper by key": _with('lock_of("key")'),
    "cached helper": _with('cached_lock("key")'),
    "endlessly cached helper": _with('endless_lock("key")'),
    "helper with a default": _with('remembered("key")'),
    "decorated helper": _with("decorated_lock()"),
    "memoized helper": _with('memoized_lock("key")'),
    "context manager": _with("exclusive()"),
    "context manager by a helper": _with('exclusive_by_helper("key")'),
    "context manager object": _with('Exclusive("key")'),
    "context manager object, kept": _with("GUARD"),
    "context manager in a variable": _manager_in_a_variable,
    "generator in a variable": _generator_in_a_variable,
    "acquire and release": _acquired_and_released,
    "acquire in a helper": _acquired_by_a_helper,
    "further out": _further_out,
    "closure": _closure(),
    "stack of locks": _stack_of_locks,
    "stack of context managers": _stack_of_managers,
    "stack of callbacks": _stack_of_callbacks,
    "in an except clause": _in_an_except_clause,
    "condition": _with("CONDITIONS[0]"),
    "bounded semaphore": _with("CONDITIONS[1]"),
}

CONDITIONS = (threading.Condition(threading.Lock()), threading.BoundedSemaphore(2))


@pytest.mark.parametrize("program", SHAPES.values(), ids=SHAPES)
def test_found_while_held(program: Callable[[], Any]) -> None:
    """One taken lock, by however many ways; free again when the program has ended."""
    found = holds(program)
    assert len({id(held.lock) for held in found}) == 1, found
    assert not found[0].is_held


def test_taken_by_others() -> None:
    """Locks that are used near the program, in functions whose locks it does not hold while it waits."""

    def helper() -> None:
        with LOCK:
            pass

    @offload
    def blocking() -> None:
        with LOCK:
            pass

    def outside_of_with() -> Any:
        with contextlib.nullcontext():
            pass
        wait()
        return helper

    def near_an_offloaded_function() -> Any:
        with contextlib.nullcontext():
            wait()
        return blocking

    def with_an_executor() -> None:
        with ThreadPoolExecutor() as executor:
            executor.submit(int)
            wait()

    class Counter:
        def __init__(self) -> None:
            self.count = threading.Semaphore(0)

        def put(self) -> None:
            self.count.release()

        def get(self) -> None:
            self.count.acquire()

    def with_a_semaphore_that_counts_events() -> None:
        counter = Counter()
        with contextlib.nullcontext():
            wait()
            counter.put()
            counter.get()

    with LOCK:
        # In Python 3.10 it cannot be seen which `with` statement a function is in.
        assert not holds(outside_of_with) or sys.version_info < (3, 11)
        assert not holds(near_an_offloaded_function)
        assert not holds(with_an_executor)
        assert not holds(with_a_semaphore_that_counts_events)


class Touchy(dict[str, Any]):
    """Does not want to be looked at."""

    touched: list[str] = []

    def touch(self, *_: Any) -> Any:
        Touchy.touched.append("touched")
        raise RuntimeError

    __getitem__ = __iter__ = __len__ = __contains__ = __eq__ = __bool__ = __getattribute__ = __getattr__ = touch
    __hash__ = keys = values = items = get = __class_getitem__ = touch  # type: ignore[assignment]
    __class__ = lock = property(touch)  # type: ignore[assignment]
    __enter__ = __exit__ = touch


def test_looking_runs_nothing() -> None:
    """No property, no attribute or item access, no comparison, in whatever way the object is referred to."""

    def getter() -> Any:
        return touchy

    class Holder:
        __slots__ = ("value",)

        def __init__(self) -> None:
            self.value = touchy

        def program(self) -> Any:
            with contextlib.nullcontext(), contextlib.ExitStack() as stack:
                stack.callback(getter)
                generator = (each for each in [touchy])
                wait()
                if Touchy.touched:  # for the names
                    return values, generator, partial, Touchy.lock, touchy.lock

    touchy = Touchy()
    dict.__setitem__(touchy, "lock", LOCKS["key"])
    values, partial = [touchy], functools.partial(getter, touchy)
    with LOCKS["key"]:
        assert {held.lock for held in holds(Holder().program)} == {LOCKS["key"]}
    assert not Touchy.touched


def test_it_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is, and however it hangs together."""
    monkeypatch.setattr(references, "_inside", _counted(references._inside))
    cyclic: list[Any] = [{"key": [n]} for n in range(100_000)]
    cyclic.append(cyclic)
    wide = {n: {m: [m] for m in range(100)} for n in range(100)}
    deep: Any = LOCK
    for _ in range(1000):
        deep = [deep]

    def program() -> None:
        with contextlib.nullcontext([cyclic, wide, deep]):
            wait()

    with LOCK:
        assert not holds(program)
    assert 10 < len(_COUNTS) <= 2 * references.MOST_OBJECTS  # it is run twice


_COUNTS: list[int] = []


def _counted(fn: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*args: Any) -> Any:
        _COUNTS.append(1)
        return fn(*args)

    return counting
