"""What is broken, and which tests must notice.

A mutant is a replacement of a text that occurs once in the library, wherever that is: one that no longer fits fails
`tests/test_harness.py`, so none can rot.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: What is wrong.
        old: Text of the library that occurs in it once.
        new: What stands there instead.
        tests: Files of tests, one of which must fail at least.
    """

    name: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = [
    Mutant(
        "a program on the loop has a copy of its caller's context",
        "self.gr_context = here.gr_context if context is None else context",
        "self.gr_context = contextvars.copy_context() if context is None else context",
        ("tests/bridge/test_context.py",),
    ),
    Mutant(
        "a program in a thread has a copy of its caller's context",
        "worker.gr_context = context\n",
        "worker.gr_context = contextvars.copy_context()\n",
        ("tests/bridge/test_context.py",),
    ),
    Mutant(
        "a cancel is lost while a thread computes",
        "if self._cancelled is not None and isinstance(message.exception, Exception | None):",
        "if self._cancelled is None and isinstance(message.exception, asyncio.CancelledError):",
        ("tests/bridge/test_cancellation.py",),
    ),
    Mutant(
        "a coroutine that is abandoned is not closed",
        "            steps.close()\n",
        "            pass\n",
        ("tests/bridge/test_endings.py", "tests/bridge/test_cancellation.py", "tests/bridge/test_results.py"),
    ),
    Mutant(
        "the async side has cache keys of its own",
        "if asynchronous in name:",
        "if asynchronous == name:",
        ("tests/seams/test_cache_keys.py",),
    ),
    Mutant(
        "a refused call keeps its place",
        "\n            self.in_flight -= 1\n            self._admit()\n",
        '\n            self.in_flight -= outcome != "refused"\n            self._admit()\n',
        ("tests/limits",),
    ),
    Mutant(
        "a resume file of another program is read",
        '("program", "program"), ',
        "",
        ("tests/batch/test_resume.py",),
    ),
    Mutant(
        "a call overtakes an equal one that the cache will answer",
        "self.session.would_overtake(call)\n",
        "False\n",
        ("tests/overlap",),
    ),
    Mutant(
        "a StopIteration of a program in a thread is its result",
        "Outcome(exception=StoppedProgram(stop))",
        "Outcome(stop.value)",
        ("tests/bridge/test_results.py",),
    ),
    Mutant(
        "what needs a thread runs on the loop",
        "(placement is PINNED_TO_THREAD or not strict) and needs_thread(fn, placement)",
        "placement is None and needs_thread(fn, placement)",
        ("tests/bridge/test_nesting.py", "tests/modules/test_entrances.py"),
    ),
    Mutant(
        "a strict program is not strict",
        "strict = placement is PINNED_TO_LOOP or (",
        "strict = placement is None or (",
        (
            "tests/bridge/test_offload.py",
            "tests/bridge/test_nesting.py",
        ),
    ),
    Mutant(
        "a synchronous caller's program runs in another thread",
        'if engine == "loop" and not bridge.in_bridge():',
        "if not bridge.in_bridge():",
        (
            "tests/bridge/test_run_sync.py",
            "tests/modules",
            "tests/overlap",
        ),
    ),
    Mutant(
        "a limit lets one more in",
        "return in_flight < max(1.0, self._size)",
        "return in_flight <= max(1.0, self._size)",
        ("tests/limits",),
    ),
    Mutant(
        "histories have the order in which calls ended",
        "entries = sorted((history[place] for place in places), key=lambda entry: ranks[id(entry)])",
        "entries = [history[place] for place in places]",
        (
            "tests/batch",
            "tests/executors",
        ),
    ),
    Mutant(
        "DSPy swallows that a program needs a thread",
        "return exc if isinstance(exc, Carried) else Carried(original)",
        "return original",
        ("tests/seams/test_exception_tunnel.py",),
    ),
    Mutant(
        "a write waits for no reader",
        "return [each for each in (*self.writers, *(self.readers if writing else ())) if not each.done]",
        "return [each for each in self.writers if not each.done]",
        ("tests/overlap/test_order.py",),
    ),
    Mutant(
        "a read waits for no writer",
        "return [each for each in (*self.writers, *(self.readers if writing else ())) if not each.done]",
        "return [each for each in (self.readers if writing else ()) if not each.done]",
        ("tests/overlap/test_order.py",),
    ),
    Mutant(
        "calls of different configuration are one",
        "return is_alike and is_same(one.config, other.config)",
        "return is_alike",
        ("tests/overlap/test_order.py",),
    ),
]
