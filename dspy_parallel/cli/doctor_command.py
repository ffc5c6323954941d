"""The command `dspy-parallel doctor`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import ExitStack, nullcontext, redirect_stdout
from typing import Any

from .compare_command import add_target
from .screen import complain, width, write

__all__ = ["add_to"]

_DESCRIPTION = """\
Says what of a program, or of all programs in a folder, would run where and why, and what blocks, fails, or keeps them
from running in parallel: each finding with file and line, what it costs, and what to write instead.

The source is read, and the helpers that it calls. With --input the program also runs once, against its own LM or,
with --serve, against a server on 127.0.0.1. A line that ends with "# dspy-parallel: ignore" is left alone."""

_EPILOG = """\
exit codes: 0 nothing found, or notes only; 1 warnings or errors; 2 no such target, or it cannot be run.

examples:
  dspy-parallel doctor src
  dspy-parallel doctor my_package --format github
  dspy-parallel doctor my_package.agent:Agent
  dspy-parallel doctor 'graph.py:make_graph()' --input question="Why?" --serve"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="what in a program blocks, fails or keeps it from running in parallel",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target(parser, "a folder, file.py, a package or module; or module:object, where () at its end calls it")
    parser.add_argument("--format", choices=("text", "json", "github", "sarif"), default="text", help="of the report")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    parser.set_defaults(run=_run, parser=parser)


async def _first_calls(server: Any) -> None:
    from ..compare.two_runs import FIRST_CALL, lms_for_first_calls

    for lm in lms_for_first_calls(server):
        await lm.acall(FIRST_CALL)


def _run(options: argparse.Namespace) -> int:
    # Here, so that `--help` and wrong options don't wait for DSPy.
    from ..compare.two_runs import empty_cache
    from ..doctor.diagnosis import examine
    from ..errors import TargetError
    from .doctor_report import report
    from .loopback import NOWHERE, on_loopback, redirected, served
    from .target_spec import load_inputs, load_targets

    with ExitStack() as stack:
        try:
            inputs = load_inputs(options.input)[0] if options.input else None
            server = stack.enter_context(served(latency=0.1)) if options.serve else None
            # What files print that are imported; and whom they ask, unless the program is to be run in any case.
            lms = redirected(on_loopback, NOWHERE) if inputs is None else nullcontext()
            with redirect_stdout(sys.stderr), lms:
                targets, skipped = load_targets(options.target)
            if inputs is not None and len(targets) > 1:
                raise TargetError(f"{options.target} has {len(targets)} programs. Name one to run: module:object.")
            if inputs is not None:
                asyncio.run(_first_calls(server))
            if server is not None:
                empty_cache()  # an answer from there takes no time, and the server's are free
            diagnosis = examine(*targets, inputs=inputs)
        except TargetError as error:
            complain(error)
            return 2
        except Exception as error:
            if not options.input:
                raise
            complain(RuntimeError(f"The run of {options.target} failed: {type(error).__name__}: {error}"))
            return 2
    write(report(options.target, diagnosis, skipped, options.format, width()))
    return 1 if any(finding.is_problem for finding in diagnosis.findings) else 0
