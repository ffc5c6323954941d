"""Many examples, 1,000 in flight: DSPy's own ways, a gather written by hand, and ours, in one run.

    python -m benchmarks.batch [EXAMPLES]

Each contender has a process of its own, warmed up with a few examples, and all have the same LM server. DSPy's default
of 8 threads would take minutes: it runs a part of the examples, and its time is scaled.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import dspy

from benchmarks import table
from benchmarks.measure import _reset_peak, _status, resident
from benchmarks.workload import Reason, engines, make_lm, start_server
from dspy_parallel import batch, install, seams

IN_FLIGHT = 1000
LATENCY = 0.5
DEFAULT_SHARE = 32
"""DSPy's default number of threads runs one in so many examples."""


class HandReason(Reason):
    async def aforward(self, document: str) -> Any:
        return await self.reason.acall(document=document)


def _examples(count: int) -> list[dspy.Example]:
    return [dspy.Example(document=f"The document with number {n}.").with_inputs("document") for n in range(count)]


def _metric(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(len(prediction.label) > 0)


def _parallel(threads: int | None) -> Callable[[int], Any]:
    return lambda count: Reason().batch(_examples(count), num_threads=threads, disable_progress_bar=True)


def _evaluate(threads: int | None) -> Callable[[int], Any]:
    return lambda count: dspy.Evaluate(devset=_examples(count), metric=_metric, num_threads=threads)(Reason()).results


def _by_hand(count: int) -> Any:
    async def main() -> Any:
        program, room = HandReason(), asyncio.Semaphore(IN_FLIGHT)

        async def one(example: Any) -> Any:
            async with room:
                return await program.acall(**example.inputs())

        return await asyncio.gather(*(one(example) for example in _examples(count)))

    return asyncio.run(main())


def _ours(count: int) -> Any:
    return batch(Reason(), _examples(count), max_in_flight=IN_FLIGHT, progress=False)


CONTENDERS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "dspy.Parallel, default threads": (lambda: None, _parallel(None)),
    "Evaluate, default threads": (lambda: None, _evaluate(None)),
    "dspy.Parallel, 1,000 threads": (lambda: None, _parallel(IN_FLIGHT)),
    "Evaluate, 1,000 threads": (lambda: None, _evaluate(IN_FLIGHT)),
    "gather by hand": (lambda: None, _by_hand),
    "gather by hand, our pool": (seams.install, _by_hand),
    "ours: batch()": (lambda: None, _ours),
    "ours: dspy.Parallel on the loop": (lambda: install(executors=True), _parallel(IN_FLIGHT)),
    "ours: Evaluate on the loop": (lambda: install(executors=True), _evaluate(IN_FLIGHT)),
}


def _measure(name: str, api_base: str, count: int) -> dict[str, float]:
    """In the contender's own process."""
    prepare, run = CONTENDERS[name]
    prepare()
    lm = make_lm(_Server(api_base), engines()[0])  # type: ignore[arg-type]
    lm.cache = False
    dspy.configure(lm=lm)
    run(60)
    _reset_peak()
    before, started, cpu = resident(), time.perf_counter(), time.process_time()
    assert len(run(count)) == count
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "megabytes": (_status("VmHWM") - before) / 1e6}


class _Server:
    """As much of a server as `make_lm` asks for; it runs in the parent."""

    def __init__(self, api_base: str) -> None:
        self.api_base = api_base

    def lm_kwargs(self) -> dict[str, str]:
        return {"api_base": self.api_base, "api_key": "none"}


def measure(count: int, names: Iterable[str] = CONTENDERS) -> dict[str, dict[str, float]]:
    """For each contender seconds, CPU seconds per example, megabytes, peak at the LM; nothing for one that failed."""
    server = start_server(latency=LATENCY)
    server.configure(log=False)
    found: dict[str, dict[str, float]] = {}
    try:
        for name in names:
            part = count // DEFAULT_SHARE if "default" in name else count
            command = [sys.executable, "-m", "benchmarks.batch", "--only", name, server.api_base, str(part)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
            peak = server.stats().peak_in_flight
            server.reset_stats()
            if done.returncode != 0:
                print(name, done.stderr.strip().splitlines()[-1], file=sys.stderr)
                found[name] = {}
                continue
            seen = json.loads(done.stdout.splitlines()[-1])
            found[name] = {
                "seconds": seen["seconds"] * count / part,
                "cpu": seen["cpu"] / part,
                "megabytes": seen["megabytes"],
                "peak": peak,
                "examples": part,
            }
            print(name, found[name], file=sys.stderr, flush=True)
    finally:
        server.stop()
    return found


def main(count: int) -> None:
    """The command."""
    rows = []
    for name, found in measure(count).items():
        if not found:
            rows.append((name, "failed", "", "", ""))
            continue
        part = int(found["examples"])
        scaled = f" (scaled from {part:,} examples)" if part != count else ""
        time_taken, cpu = f"{found['seconds']:.1f} s{scaled}", f"{found['cpu'] * 1e3:.2f} ms"
        rows.append((name, time_taken, cpu, f"{found['megabytes']:.0f} MB", f"{found['peak']:.0f}"))
    title = (
        f"{count:,} examples of {LATENCY} s, {IN_FLIGHT:,} in flight, {engines()[0]} engine, DSPy {dspy.__version__}"
    )
    table.show(title, ("", "time", "CPU per example", "memory on top", "peak at the LM"), rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        print(json.dumps(_measure(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5000)
