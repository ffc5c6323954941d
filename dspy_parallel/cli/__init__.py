"""The command line `dspy-parallel`, or `python -m dspy_parallel`: a file for each command.

A command adds itself to the parser, and has `run` as its default: a function of the options that returns the exit
code. It imports DSPy only there, so that `--help` and wrong options do not wait for it. `target_spec` finds what a
command line names, `loopback` has LMs answered by the test server, `screen` writes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from . import compare_command, demo_command, doctor_command, run_command, serve_command

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name; by default that of the process.

    Returns:
        The exit code, which each command documents in its `--help`; 130 after Ctrl-C.

    Raises:
        SystemExit: For `--help`, and with 2 for a wrong command line.

    Example:
        ```console
        $ dspy-parallel demo --questions 1
        ```
    """
    parser = argparse.ArgumentParser(prog="dspy-parallel", description="Run sync DSPy programs in parallel.")
    version = importlib.metadata.version("dspy-parallel")
    parser.add_argument("--version", action="version", version=f"dspy-parallel {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in (run_command, doctor_command, compare_command, demo_command, serve_command):
        command.add_to(commands)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        parser.print_help()
        return 0
    given, theirs = run_command.split(given)
    options, rest = parser.parse_known_args(given)
    if not hasattr(options, "run"):
        parser.error("name a command")
    if rest and not getattr(options, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = [*rest, *theirs]
    # Else LiteLLM fetches its price list when it is imported; without a network that takes a while, and warns.
    if options.run is not run_command.run:  # whose script has the environment that it is given
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        if options.run is run_command.run:
            raise  # ends as Python does
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `dspy-parallel ... | head`: the reader has seen enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
