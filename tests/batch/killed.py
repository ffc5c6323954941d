"""A batch that is killed at random moments and run again; the script of test_kills.py.

    python -m tests.batch.killed API_BASE FILE EXAMPLES IN_FLIGHT KILLS SEED

Each attempt is a fork of this process, which has DSPy imported and no threads. Prints, for each kill, how many lines
the file had, then the results of the last attempt.
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


def attempt(lm: dspy.LM, file: str, count: int, in_flight: int) -> list[str]:
    rows = [{"question": f"question {number % (count // 2)}"} for number in range(count)]  # each of them twice
    with dspy.context(lm=lm):
        program = dspy.Predict("question -> answer")
        return [each.answer for each in batch(program, rows, max_in_flight=in_flight, progress=False, resume=file)]


def main(api_base: str, file: str, count: int, in_flight: int, kills: int, seed: int) -> None:
    warnings.simplefilter("ignore")
    lm = dspy.LM("openai/any", api_base=api_base, api_key="none", cache=False, num_retries=0)
    moments = random.Random(seed)
    for _ in range(kills):
        before = size(file)
        child = os.fork()
        if child == 0:
            attempt(lm, file, count, in_flight)
            os._exit(0)
        if moments.random() < 0.8:  # the others are killed while they begin
            while size(file) == before and os.waitpid(child, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(file, "ab+") as lines:
            lines.seek(0)
            print(sum(b'"result"' in line for line in lines), flush=True)
    print(json.dumps(attempt(lm, file, count, in_flight)))


def size(file: str) -> int:
    return os.path.getsize(file) if os.path.exists(file) else 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(given) for given in sys.argv[3:]))
