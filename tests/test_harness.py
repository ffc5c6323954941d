"""The harness notices what it promises to notice."""

from __future__ import annotations

import asyncio
import os
import threading

import dspy
import pytest
from greenlet import getcurrent, greenlet

from tests.mutants.__main__ import ROOT, files_with
from tests.mutants.table import MUTANTS
from tests.support import leaks
from tests.support.loops import run_on


def test_run_here_returns_the_result_on_every_loop(run_here, no_leaks):
    async def doubled(number):
        task = asyncio.create_task(asyncio.sleep(0, 2 * number))
        return await task

    assert run_here(doubled, 3) == 6


def test_a_thread_at_work_is_a_leak():
    done = threading.Event()
    before = leaks.busy_threads()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with pytest.raises(AssertionError, match="still at work"):
            leaks.check(before, patience=0)
    finally:
        done.set()
        thread.join()
    leaks.check(before)


def test_a_pending_task_is_a_leak():
    kept = []

    async def forgets_a_task():
        kept.append(asyncio.create_task(asyncio.Event().wait()))

    run_on("asyncio", forgets_a_task)
    with pytest.raises(AssertionError, match="left pending"):
        leaks.check(leaks.busy_threads())
    assert kept[0].cancelled()


def test_a_suspended_greenlet_is_a_leak():
    suspended = greenlet(getcurrent().switch)
    suspended.switch()
    with pytest.raises(AssertionError, match="left suspended"):
        leaks.check(leaks.busy_threads())
    suspended.switch()
    leaks.check(leaks.busy_threads())


def test_dspys_disk_cache_is_not_the_users():
    assert os.path.expanduser("~") not in dspy.cache.disk_cache._directory
    assert dspy.cache.disk_cache._directory.startswith(os.environ["DSPY_CACHEDIR"])


@pytest.mark.parametrize("run", [1, 2])
async def test_each_test_may_configure_dspy_in_its_own_task(run):
    assert dspy.settings.lm is None
    assert "key" not in dspy.cache.memory_cache
    dspy.configure(lm=f"the LM of run {run}")
    dspy.cache.memory_cache["key"] = "value"
    dspy.configure_cache(enable_disk_cache=False)


def test_every_mutant_fits():
    """What it breaks is there once, and so are the tests that have to notice."""
    assert {mutant.name: files_with(mutant.old) for mutant in MUTANTS if len(files_with(mutant.old)) != 1} == {}
    assert [test for mutant in MUTANTS for test in mutant.tests if not (ROOT / test).exists()] == []
