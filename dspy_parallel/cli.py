"""The command line: `dspy-parallel demo`, `doctor`, `compare`, `serve`."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import Any

from .compare import command as compare
from .demo import command as demo
from .doctor import command as doctor

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
    parser = argparse.ArgumentParser(prog="dspy-parallel", description="Run sync DSPy modules concurrently.")
    version = importlib.metadata.version("dspy-parallel")
    parser.add_argument("--version", action="version", version=f"dspy-parallel {version}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    # A command adds itself, with `run` as its default: a function of the options that returns the exit code.
    for add_to in (demo.add_to, doctor.add_to, compare.add_to, _add_serve):
        add_to(commands)
    options, rest = parser.parse_known_args(arguments)
    if rest and not getattr(options, "passes_on", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `dspy-parallel ... | head`: the reader has seen enough. What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the loopback LM server until Ctrl-C",
        description="An OpenAI-compatible LM server on 127.0.0.1, for tests and measurements.",
        add_help=False,  # the server's own parser knows its options
    )
    parser.set_defaults(run=_serve, passes_on=True)


def _serve(options: argparse.Namespace) -> int:
    from .testing.__main__ import main as serve

    return serve(options.rest)


if __name__ == "__main__":
    sys.exit(main())
