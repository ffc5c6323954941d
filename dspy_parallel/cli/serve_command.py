"""`dspy-parallel serve`: the loopback LM server."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_to"]


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser = commands.add_parser(
        "serve",
        help="run the loopback LM server until Ctrl-C",
        description="An OpenAI-compatible LM server on 127.0.0.1, for tests and measurements.",
        add_help=False,  # the server's own parser knows its options
    )
    parser.set_defaults(run=_run, passes_on=True)


def _run(options: argparse.Namespace) -> int:
    from ..testing.__main__ import main as serve

    return serve(options.rest)
