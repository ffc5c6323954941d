"""The table: patching, restoring, what patched functions look like, rows of one's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import re
import subprocess
import sys
import textwrap
import threading
import time
import types
import weakref
from collections.abc import Iterator
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import dspy
import pytest

from dspy_parallel import add_seam, limit, limit_all, run, seams
from dspy_parallel.bridge import in_bridge
from dspy_parallel.errors import SeamError, ThreadRequiredError
from dspy_parallel.seams import table
from dspy_parallel.seams.patches import Patch
from dspy_parallel.seams.releases import is_expected, is_there, release_of
from dspy_parallel.seams.table import Seam, _table
from tests.seams.programs import alone, together
from tests.support.children import PRELOADED, run_child

ROOT = Path(__file__).resolve().parents[2]


# DSPy leaves sqlite connections of its cache to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def _owners() -> dict[str, Any]:
    """What the rows patch, of modules that are imported."""
    owners: dict[str, Any] = {}
    for row in _table._rows.values():
        owner = sys.modules.get(row.module)
        for step in row.path[:-1]:
            owner = getattr(owner, step, None)
        if owner is not None:
            owners[f"{row.module}:{'.'.join(row.path[:-1])}"] = owner
    return owners


def _everything() -> dict[str, dict[str, Any]]:
    return {name: dict(vars(owner)) for name, owner in _owners().items()}


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module, and no rows for it afterwards."""
    module = sys.modules["fake_store"] = types.ModuleType("fake_store")
    code = """
    class Store:
        def load(self, key): return key.upper()
        @classmethod
        def kind(cls): return cls.__name__
        @staticmethod
        def add(a, b): return a + b
    class Special(Store):
        pass
    def load(key, *, times=1): return key * times
    """
    exec(textwrap.dedent(code), vars(module))
    yield module
    seams.uninstall()
    for target in [target for target in _table._rows if target.startswith(("fake_store:", "fake_late"))]:
        del _table._rows[target]
    sys.modules.pop("fake_store", None)


def test_uninstall_restores_exactly_what_was_there() -> None:
    import httpx  # noqa: F401
    import requests  # noqa: F401

    seams.uninstall()
    before = _everything()
    for _ in range(2):
        seams.install()
        now = _everything()
        patched = [name for name in now if any(now[name][key] is not value for key, value in before[name].items())]
        assert len(patched) > 15, patched
        seams.uninstall()
        after = _everything()
        for name, content in before.items():
            assert list(content) == list(after[name]), name
            assert all(after[name][key] is value for key, value in content.items()), name


def test_installing_twice_patches_once() -> None:
    patch = vars(dspy.BaseLM)["__call__"]
    seams.install()
    assert vars(dspy.BaseLM)["__call__"] is patch
    target = "dspy.clients.base_lm:BaseLM.__call__"
    for _ in [row for row in _table._rows.values() if row.target == target and row.part == "bridge"]:
        assert type(patch) is Patch
        patch = patch.__wrapped__
    assert type(patch) is types.FunctionType


def test_every_row_says_which_releases_have_its_target() -> None:
    """Those that are to have it do, and those that are not do not: for each release that this suite runs with."""
    wrong = []
    for row in table.rows():
        with contextlib.suppress(ImportError):
            importlib.import_module(row.module)
        expected, there = is_expected(row), row.module in sys.modules and is_there(row.target)
        if row.part == "bridge" and row.module in sys.modules and expected != (row.key in _table._parts[row.part].keys):
            wrong.append((row.target, "is not patched" if expected else "is patched"))
        if (
            expected != there
            and not (there and row.until)
            and (row.module in sys.modules or release_of(row.module) is not None)
        ):
            wrong.append((row.target, "is missing" if expected else "is there"))
    assert wrong == []


class Known(NamedTuple):
    target: str
    since: str = ""
    until: str = ""


def test_what_a_release_is_to_have() -> None:
    python, dspy_release = ".".join(map(str, sys.version_info[:2])), version("dspy")
    for known, expected in (
        (Known("dspy:x"), True),
        (Known("dspy:x", since="3"), True),
        (Known("dspy:x", since=dspy_release), True),
        (Known("dspy:x", since="99.1"), False),
        (Known("dspy:x", until="99"), True),
        (Known("dspy:x", until=dspy_release), False),
        (Known("asyncio:x", since=python), True),
        (Known("asyncio:x", until=python), False),
        (Known("no_such_package:x"), True),
        (Known("no_such_package:x", since="1"), False),
    ):
        assert is_expected(known) is expected, known


RENAMED = [
    row.target for row in table.rows() if row.layer == "limit" and row.module.startswith("dspy.") and is_expected(row)
]


@pytest.mark.parametrize("target", RENAMED)
def test_a_limit_is_never_off_in_silence(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that renames a function, or a module, is one clear error, before the first call and at each."""
    module, _, path = target.partition(":")
    *owner, name = path.split(".")
    holder: Any = importlib.import_module(module)
    for step in owner:
        holder = getattr(holder, step)
    lm = dspy.LM("openai/any")
    seams.uninstall()
    monkeypatch.delattr(holder, name)
    for call in (lambda: limit(lm, max_in_flight=3), lambda: limit_all(max_in_flight=3), seams.install):
        with pytest.raises(SeamError, match=rf"does not know dspy {re.escape(version('dspy'))}: {target} is missing"):
            call()  # type: ignore[no-untyped-call]
        assert not vars(lm).get("_dspy_parallel_limit")
    monkeypatch.undo()
    seams.install()


def test_a_module_that_comes_without_what_is_patched() -> None:
    """Whoever imports it is told, each time; and so is who looks for it, if there is no such module any more."""
    program = """
    import sys, pathlib, tempfile
    import dspy, pytest
    from dspy_parallel import SeamError, seams
    from dspy_parallel.seams.table import Seam, everywhere, register
    import importlib, litellm
    folder = pathlib.Path(litellm.__path__[0])
    litellm.__path__.append(tempfile.mkdtemp())
    pathlib.Path(litellm.__path__[1], "renamed_here.py").write_text("other = 1")
    register(Seam("litellm.renamed_here:name", lambda *_: None, when=everywhere))
    seams.install()
    for _ in range(3):
        with pytest.raises(SeamError, match="litellm.renamed_here:name is missing"):
            importlib.import_module("litellm.renamed_here")
    seams.uninstall()
    register(Seam("litellm.moved_here:name", lambda *_: None, when=everywhere))
    with pytest.raises(SeamError, match="litellm.moved_here:name is missing"):
        seams.install()
    """
    run_child(program, python=PRELOADED, timeout=240)


def test_a_module_imported_later_is_patched_when_it_comes() -> None:
    program = """
    import sys
    from dspy_parallel import seams
    from dspy_parallel.seams.patches import Patch
    assert "wave" not in sys.modules
    seams.add_seam("wave:Wave_read.readframes")
    seams.install()
    import wave
    assert type(vars(wave.Wave_read)["readframes"]) is Patch
    seams.uninstall()
    assert type(vars(wave.Wave_read)["readframes"]) is not Patch
    seams.install()
    assert type(vars(wave.Wave_read)["readframes"]) is Patch
    seams.uninstall()
    del sys.modules["wave"]
    import wave
    assert type(vars(wave.Wave_read)["readframes"]) is not Patch
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=True, timeout=240)


def test_a_module_that_is_being_imported_is_patched_at_the_next_run(module: types.ModuleType) -> None:
    load = module.load
    del module.load
    module.__spec__ = types.SimpleNamespace(_initializing=True)  # type: ignore[assignment]
    add_seam("fake_store:load")
    assert not hasattr(module, "load")
    module.load = load
    seams.install()
    assert module.load is load
    module.__spec__._initializing = False
    seams.install()
    assert type(vars(module)["load"]) is Patch


def test_installing_does_not_wait_for_an_import_in_another_thread(tmp_path: Path) -> None:
    """The importing thread calls the table's hook with the module's import lock held; the table must not want that."""
    (tmp_path / "fake_late.py").write_text(
        "import meeting\nmeeting.begun.set()\nmeeting.go_on.wait(100)\ndef f(): pass\n"
    )
    program = """
    import sys, threading, types
    meeting = sys.modules["meeting"] = types.SimpleNamespace(begun=threading.Event(), go_on=threading.Event())
    from dspy_parallel import seams
    from dspy_parallel.seams.patches import Patch
    seams.install()
    thread = threading.Thread(target=lambda: __import__("fake_late"))
    thread.start()
    meeting.begun.wait(100)
    seams.add_seam("fake_late:f")
    seams.uninstall()
    seams.install()
    meeting.go_on.set()
    thread.join(100)
    seams.install()
    assert type(sys.modules["fake_late"].f) is Patch
    """
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=True, timeout=240)


def test_install_and_uninstall_while_programs_run() -> None:
    """Programs on other threads see either the plain function or the patched one, never nothing."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.is_set():
                time.sleep(0)
                future: Future[int] = Future()
                future.set_result(1)
                assert future.result() == 1
                assert asyncio.run(run(lambda: time.sleep(0), engine="loop")) is None
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        seams.install()
        seams.uninstall()
    stop.set()
    for thread in threads:
        thread.join(100)
    assert failures == []


def test_subclasses_present_and_future_are_covered_and_not_kept_alive() -> None:
    seams.uninstall()

    class Early(dspy.BaseLM):
        def __call__(self, prompt=None, **kwargs):
            return ["early"]

    plain = vars(Early)["__call__"]
    seams.install()

    class Late(Early):
        def __call__(self, prompt=None, **kwargs):
            return super().__call__(prompt, **kwargs)

    assert type(vars(Early)["__call__"]) is Patch
    assert type(vars(Late)["__call__"]) is Patch
    assert Late("m")("x") == ["early"]
    reference = weakref.ref(Late)
    del Late
    gc.collect()
    assert reference() is None
    seams.uninstall()
    assert vars(Early)["__call__"] is plain
    assert "__init_subclass__" not in vars(dspy.BaseLM)


def test_a_class_has_its_own_row_though_a_layer_of_its_base_covers_it_first(module: types.ModuleType) -> None:
    """As a chat model that is imported after `install()`: its base class is by then."""

    def saying(word: str) -> Any:
        return lambda original, instance, args, kwargs: [word, *original(*args, **kwargs)]

    class Base:
        def load(self) -> list[str]:
            return []

    module.Base = Base
    _table.add(Seam("fake_store:Base.load", saying("layer"), overrides=True, layer="users"))

    class Below(Base):
        def load(self) -> list[str]:
            return ["below"]

    module.Below = Below
    _table.add(Seam("fake_store:Below.load", saying("own"), overrides=True))

    class Last(Below):
        def load(self) -> list[str]:
            return ["last"]

    for cls, last in (Below, "below"), (Last, "last"):
        assert alone(lambda cls=cls: cls().load(), engine="loop") == ["layer", "own", last]
        assert cls().load() == [last]
    seams.uninstall()
    assert [type(vars(cls)["load"]) for cls in (Base, Below, Last)] == [types.FunctionType] * 3


def test_a_base_class_with_a_hook_of_its_own_keeps_it(module: types.ModuleType) -> None:
    seen = []

    class Base:
        def __init_subclass__(cls, tag: str = "", **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, tag))

        def load(self) -> str:
            return "base"

    hook = vars(Base)["__init_subclass__"]
    module.Base = Base
    _table.add(Seam("fake_store:Base.load", lambda original, instance, args, kwargs: "bridged", overrides=True))

    class Below(Base, tag="t"):
        def load(self) -> str:
            return "below"

    assert seen == [("Below", "t")]
    assert Below().load() == "below"
    assert alone(lambda: Below().load(), engine="loop") == "bridged"
    seams.uninstall()
    assert vars(Base)["__init_subclass__"] is hook


def test_what_somebody_puts_on_top_survives_uninstall(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = vars(dspy.BaseLM)["__call__"]

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours.__get__(self, type(self))(*args, **kwargs)

    monkeypatch.setattr(dspy.BaseLM, "__call__", theirs)
    seams.uninstall()
    assert vars(dspy.BaseLM)["__call__"] is theirs
    monkeypatch.undo()
    dspy.BaseLM.__call__ = ours.__wrapped__


def test_add_seam_with_a_twin_and_without(module: types.ModuleType) -> None:
    async def aload(key: str, *, times: int = 1) -> str:
        await asyncio.sleep(0)
        return f"async {key * times}"

    async def amethod(store: Any, key: str) -> str:
        return f"async {type(store).__name__} {key}"

    add_seam("fake_store:load", aload)
    add_seam("fake_store:Store.load", amethod)
    add_seam("fake_store:Store.add")
    add_seam("fake_store:Store.kind")
    assert module.load("a", times=2) == "aa"
    assert module.Special().load("a") == "A"

    def program() -> list[Any]:
        return [module.load("a", times=2), module.Special().load("k"), module.Store.add(1, 2), module.Special.kind()]

    assert alone(program) == ["async aa", "async Special k", 3, "Special"]
    with pytest.raises(ThreadRequiredError, match="no async twin"):
        alone(program, engine="loop")


def test_add_seam_refuses_what_cannot_work(module: types.ModuleType) -> None:
    for target, complaint in {
        "fake_store.load": "not of the form",
        "fake_store:": "not of the form",
        "fake_store:missing": "does not exist",
        "fake_store:Special.load": "inherited: name the class that defines it, Store",
        "time:sleep": "already",
    }.items():
        with pytest.raises(SeamError, match=complaint):
            add_seam(target)
    seams.uninstall()
    seams.install()  # the refused rows have left nothing behind


def test_a_thread_row_blocks_nobody(module: types.ModuleType) -> None:
    barrier = threading.Barrier(3)
    module.meet = lambda: barrier.wait(100)
    module.meet.__module__, module.meet.__qualname__ = "fake_store", "meet"
    add_seam("fake_store:meet")
    assert sorted(together(lambda: module.meet())) == [0, 1, 2]


def test_not_in_the_bridge_means_not_taken() -> None:
    """In tasks and threads that a program starts, a patched function is the plain one."""

    async def main() -> None:
        async def other() -> bool:
            return in_bridge()

        def program() -> Any:
            return asyncio.ensure_future(other())

        assert await (await run(program, engine="loop")) is False

    asyncio.run(main())


@pytest.mark.bench
def test_the_cost_outside_the_bridge() -> None:
    """A patched call costs about a microsecond more; an LM call takes a thousand times as long."""
    import timeit

    class Stub(dspy.BaseLM):
        def __call__(self, *args: Any, **kwargs: Any) -> list[str]:
            return []

    lm = Stub("stub")
    future: Future[int] = Future()
    future.set_result(1)
    for call in (lm, future.result):
        patched = min(timeit.repeat(call, number=10_000, repeat=7)) / 10_000
        seams.uninstall()
        plain = min(timeit.repeat(call, number=10_000, repeat=7)) / 10_000
        seams.install()
        assert patched - plain < 5e-6
