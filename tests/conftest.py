"""Environment of the tests: no network look-ups, DSPy's state fresh for each test, loops to run on."""

from __future__ import annotations

import atexit
import copy
import functools
import gc
import os
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

# Before anything imports LiteLLM or DSPy: LiteLLM fetches a price list on import, and DSPy opens its disk cache.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
_cache_directory = tempfile.mkdtemp(prefix="dspy-parallel-cache-")
os.environ["DSPY_CACHEDIR"] = _cache_directory
atexit.register(shutil.rmtree, _cache_directory, ignore_errors=True)

# A shell that starts the tests in the background has them ignore Ctrl-C, and so the programs that they send one to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Up to Python 3.12, the parser fails if another runs within it ("AST constructor recursion depth mismatch"): that of
# a traceback's carets, say, which pytest formats for the socket of a client that the garbage collector came upon.
if sys.version_info < (3, 13):
    vars(traceback)["_extract_caret_anchors_from_line_segment"] = lambda *_: None

import pytest
from hypothesis import HealthCheck, settings

from dspy_parallel.testing import LMServer

# The plugin's fixture. Not through its entry point (see `-p no:` in pyproject.toml), which would import DSPy before
# the lines above.
from dspy_parallel.testing.plugin import lm_server_factory  # noqa: F401
from tests.support import leaks
from tests.support.children import serve_preloaded
from tests.support.loops import LOOP_KINDS, run_on

# A wait for the server is over early if things go well; if the machine is slow, only late.
for _wait in (LMServer.wait_for, LMServer.await_for):
    _wait.__kwdefaults__["timeout"] = 200.0

_slow_is_fine = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
for _name, _examples in (("default", 25), ("matrix", 10), ("stress", 1000)):
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=_slow_is_fine,
        # A run of the suite says something about the change, not about its luck; what is new is found under stress.
        derandomize=_name != "stress",
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Each process has one half, not every other test: what the first test of a file sets up is set up once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's processes have that of the one that starts them
        config.add_cleanup(serve_preloaded())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, documents and examples: else one process ends with them while the other has nothing."""
    items.sort(key=lambda item: item.path.parent.name != "tests")


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> None:
    """Have the tests' garbage collections skip what is alive before the module's first test.

    Looking for leaks collects after each test, which takes half a second with DSPy, LiteLLM and LangGraph in memory.
    So does a collection of all for each module: what once was frozen stays so to the end.
    """
    collect_what_others_leave()
    gc.freeze()


def collect_what_others_leave() -> None:
    """Of LiteLLM: a client, with its open connections, for every event loop that there was; on Python 3.10 also the
    main thread's loop, which its sync calls make.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        if "litellm" in sys.modules:
            sys.modules["litellm"].in_memory_llm_clients_cache.flush_cache()
        while gc.collect() > 100:  # what is freed may have held more
            pass


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure() -> None:
    gc.unfreeze()
    collect_what_others_leave()


@pytest.fixture(autouse=True)
def fresh_dspy() -> Iterator[None]:
    """DSPy's settings, history and caches are as after import once a test is over, even if it swapped them.

    Tests that never import DSPy pay nothing.
    """
    cache = _built_cache()
    yield
    if "dspy" in sys.modules:
        _reset_dspy(cache)


def _built_cache() -> Any:
    """DSPy's cache, unless there is none yet: from 3.4 on it is built when first read."""
    return vars(sys.modules["dspy"]).get("cache") if "dspy" in sys.modules else None


def _is_default(cache: Any) -> bool:
    return str(getattr(cache.disk_cache, "_directory", "")).startswith(_cache_directory)


def _reset_dspy(cache: Any) -> None:
    import dspy
    from dspy.clients import base_lm

    # Not `from dspy.dsp.utils import settings`: that is the Settings object of the same name.
    dspy_settings = sys.modules["dspy.dsp.utils.settings"]

    dspy_settings.main_thread_config.clear()
    dspy_settings.main_thread_config.update(copy.deepcopy(dspy_settings.DEFAULT_CONFIG))
    # The first thread and task to call dspy.configure() own the settings from then on.
    dspy_settings.config_owner_thread_id = None
    dspy_settings.config_owner_async_task = None
    base_lm.GLOBAL_HISTORY.clear()
    if cache is not None:
        dspy.cache = cache
    elif hasattr(dspy, "_cache_lock") and _built_cache() is not None and not _is_default(_built_cache()):
        del dspy.cache  # the test's own, made before there was one: DSPy builds the default when it is read
    used = _built_cache()
    if used is not None:
        used.memory_cache.clear()
        used.disk_cache.clear()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[LMServer]:
    """The one process behind `server`. A slow machine is no reason to open a gate."""
    with LMServer(max_hold=240) as server:
        yield server


@pytest.fixture
def server(shared_server: LMServer) -> LMServer:
    """An LM server with default options and nothing counted, as if it had just been started."""
    shared_server.restore()
    return shared_server


@pytest.fixture
def lm_server(server: LMServer) -> LMServer:
    """The same, by the plugin's name."""
    return server


@pytest.fixture(params=LOOP_KINDS)
def loop_kind(request: pytest.FixtureRequest) -> str:
    """Runs the test once for each kind of event loop of this interpreter."""
    return request.param


@pytest.fixture
def run_here(loop_kind: str) -> Callable[..., Any]:
    """`run_here(coro_fn, *args)`: run on a fresh loop, once for each kind of loop."""
    return functools.partial(run_on, loop_kind)


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a thread at work, a task pending (under `run_on`) or a program suspended."""
    leaks.left_pending.clear()
    before = leaks.busy_threads()
    yield
    leaks.check(before)
