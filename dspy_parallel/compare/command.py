"""The command `dspy-parallel compare`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

__all__ = ["add_to"]

_DESCRIPTION = """\
Runs your own program or graph as it is, and then parallelised: modules and functions with overlap, graphs by
parallelize_graph(). Shows both timelines, compares the outputs, and says how many times as fast it is.

Without a key, --serve has a server on 127.0.0.1 play every dspy.LM of the program; --replay gives it the latencies
of a timeline that was recorded before, or of a list."""

_EPILOG = """\
exit codes: 0 same outputs; 1 they differ; 2 what was named cannot be compared, read or written; 3 it raised the same
error both ways.

examples:
  dspy-parallel compare my_package.agent:agent --input question.json
  dspy-parallel compare graph.py:builder --input state.json --serve --html compared.html
  dspy-parallel compare graph.py:builder --input state.json --replay recorded.json"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="run your own program as it is and parallelised, and compare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "target", metavar="TARGET", help="package.module:object or file.py:object; with () at its end, it is called"
    )
    parser.add_argument(
        "--input", metavar="FILE", required=True, help="JSON: keyword arguments, or a graph's state; or a list of them"
    )
    parser.add_argument("--html", metavar="OUT", help="write a page with both timelines")
    parser.add_argument("--serve", action="store_true", help="let a server on 127.0.0.1 play every dspy.LM")
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="for --serve, which it implies: a timeline saved as JSON, or seconds: a number, a list, lists by model",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

    # Here, so that `--help` and wrong options don't wait for DSPy.
    from ..errors import DSPyParallelError
    from ..targets import LATENCY, load_inputs, load_latencies, load_target, served
    from .outputs import differences
    from .report import as_data, as_html, text
    from .running import compare

    with ExitStack() as stack:
        try:
            inputs = load_inputs(options.input)
            server = None
            if options.serve or options.replay:
                latency = load_latencies(options.replay) if options.replay else LATENCY
                server = stack.enter_context(served(latency))
            target = load_target(options.target)
            if options.html:
                _check_writable(options.html)
            compared = compare(target, inputs, server)
        except DSPyParallelError as error:
            print(error, file=sys.stderr)
            return 2
    found = list(differences(compared.before.outputs, compared.after.outputs))
    if options.html:
        Path(options.html).write_text(as_html(target.name, compared, found), encoding="utf-8")
    if options.json:
        print(json.dumps(as_data(compared, found), indent=2))
    else:
        for line in text(compared, found, max(72, min(shutil.get_terminal_size((100, 24)).columns, 140))):
            print(line)
    failed = [output for output in compared.before.outputs if isinstance(output, Exception)]
    if failed and not found:
        print(f"Both ways it raised {type(failed[0]).__name__}: {failed[0]}", file=sys.stderr)
        return 3
    return 1 if found else 0


def _check_writable(path: str) -> None:
    """Find out before anything is called."""
    from ..errors import TargetError

    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise TargetError(f"The page {path} cannot be written: {error.strerror or error}.") from error
