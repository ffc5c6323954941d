"""A batch that is killed at random moments and run again; the script of test_kills.py.

    python -m tests.batch.killed FILE EXAMPLES IN_FLIGHT KILLS SEED

Each attempt is a fork of this process, which has DSPy imported and no threads. An attempt that is to be killed is
answered fewer calls than it has in flight: however late the kill comes, it comes before the end. Prints, for each kill,
how many lines the file had, then how many calls there were, and the results of the last attempt.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings

import dspy

from dspy_parallel import batch
from dspy_parallel.testing import LMServer


def attempt(lm: dspy.LM, file: str, count: int, in_flight: int) -> list[str]:
    rows = [{"question": f"question {number % (count // 2)}"} for number in range(count)]  # each of them twice
    with dspy.context(lm=lm):
        program = dspy.Predict("question -> answer")
        return [each.answer for each in batch(program, rows, max_in_flight=in_flight, progress=False, resume=file)]


def main(file: str, count: int, in_flight: int, kills: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    with LMServer(latency=0.04, hold=True) as server:
        lm = dspy.LM("openai/any", cache=False, num_retries=0, **server.lm_kwargs())
        run(server, lm, file, count, in_flight, kills, random.Random(seed))


def run(
    server: LMServer, lm: dspy.LM, file: str, count: int, in_flight: int, kills: int, moments: random.Random
) -> None:
    for _ in range(kills):
        before = size(file)
        child = os.fork()
        if child == 0:
            attempt(lm, file, count, in_flight)
            os._exit(0)
        if moments.random() < 0.8:  # the others are killed while they begin
            server.wait_for(in_flight=in_flight, timeout=60)
            server.release(moments.randrange(1, in_flight))
            while size(file) == before:
                time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        server.wait_for(in_flight=0, timeout=60)  # it has noticed
        with open(file, "ab+") as lines:
            lines.seek(0)
            print(sum(b'"result"' in line for line in lines), flush=True)
    server.release()
    results = attempt(lm, file, count, in_flight)
    print(server.stats().requests)
    print(json.dumps(results))


def size(file: str) -> int:
    return os.path.getsize(file) if os.path.exists(file) else 0


if __name__ == "__main__":
    main(sys.argv[1], *(int(given) for given in sys.argv[2:]))
