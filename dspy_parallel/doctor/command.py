"""The command `dspy-parallel doctor`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import sys
from contextlib import ExitStack, suppress
from typing import Any

__all__ = ["add_to"]

_DESCRIPTION = """\
Says what of a program would run where and why, and what blocks, fails, or keeps it from running in parallel: each
finding with file and line, what it costs, and what to write instead.

The source is read, and the helpers that it calls. With --input the program also runs once, against its own LM or,
with --serve, against a server on 127.0.0.1."""

_EPILOG = """\
exit codes: 0 nothing found, or notes only; 1 warnings or errors; 2 no such target, or it cannot be run.

examples:
  dspy-parallel doctor my_package.agent:Agent
  dspy-parallel doctor graph.py:builder --json
  dspy-parallel doctor 'graph.py:make_graph()' --input question.json --serve"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what in a program blocks, fails or keeps it from running in parallel",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target", metavar="TARGET", help="package.module:object or file.py:object; with () at its end, it is called"
    )
    parser.add_argument("--input", metavar="FILE", help="JSON: keyword arguments, or a graph's state, to run it with")
    parser.add_argument("--serve", action="store_true", help="let a server on 127.0.0.1 play every dspy.LM")
    parser.add_argument(
        "--in-flight",
        type=int,
        default=1,
        metavar="N",
        help="how many runs at the same time there shall be (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run, parser=parser)


async def _first_calls(server: Any) -> None:
    from ..targets import FIRST_CALL, lms_for_first_calls

    for lm in lms_for_first_calls(server):
        await lm.acall(FIRST_CALL)


def _forget_replies() -> None:
    """An answer from the cache takes no time, and the server's are free."""
    import dspy

    with suppress(Exception):  # the memory of an LM class that has its own cache is its own affair
        dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

    # Here, so that `--help` and wrong options don't wait for DSPy.
    from ..errors import TargetError
    from ..targets import load_inputs, load_target, served
    from .diagnosis import examine
    from .report import as_data, text

    with ExitStack() as stack:
        try:
            inputs = load_inputs(options.input)[0] if options.input else None
            server = stack.enter_context(served(latency=0.1)) if options.serve else None
            target = load_target(options.target)
            if inputs is not None:
                asyncio.run(_first_calls(server))
            if server is not None:
                _forget_replies()
            diagnosis = examine(target, inputs=inputs, in_flight=options.in_flight)
        except TargetError as error:
            print(error, file=sys.stderr)
            return 2
        except Exception as error:
            if not options.input:
                raise
            print(f"The run with {options.input} failed: {type(error).__name__}: {error}", file=sys.stderr)
            return 2
    if options.json:
        print(json.dumps(as_data(diagnosis), indent=2))
    else:
        width = max(72, min(shutil.get_terminal_size((100, 24)).columns, 120))
        for line in text(diagnosis, width):
            print(line)
    return 1 if any(finding.is_problem for finding in diagnosis.findings) else 0
