"""`dspy-parallel compare`: your own program as it is and parallelised."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .screen import complain, width, write

if TYPE_CHECKING:
    from ..compare.two_runs import Comparison

__all__ = ["add_target", "add_to", "show"]

_DESCRIPTION = """\
Runs your own program or graph as it is, and then parallelised: modules and functions with overlap, graphs by
parallelize_graph(overlap=True). Shows both timelines, compares the outputs, and says how many times as fast it is.

Without a key, --serve has a server on 127.0.0.1 play every dspy.LM of the program; --replay gives it the latencies
of a timeline that was recorded before, or of a list."""

_EPILOG = """\
exit codes: 0 same outputs; 1 they differ; 2 what was named cannot be compared, read or written; 3 it raised the same
error both ways.

examples:
  dspy-parallel compare my_package.agent:agent --input question.json
  dspy-parallel compare my_package.agent:agent --input question="Why?" --serve
  dspy-parallel compare graph.py:builder --input state.json --serve --html compared.html
  dspy-parallel compare graph.py:builder --input state.json --replay recorded.json"""


def add_target(parser: argparse.ArgumentParser, what: str, **inputs: Any) -> None:
    """Add the arguments that name a program and its inputs."""
    parser.add_argument("target", metavar="TARGET", help=what)
    parser.add_argument(
        "--input",
        metavar="INPUT",
        nargs="+",
        help="keyword arguments, or a graph's state: a JSON file, - for stdin, JSON itself, or name=value ...",
        **inputs,
    )
    parser.add_argument("--serve", action="store_true", help="let a server on 127.0.0.1 play every dspy.LM")


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "compare",
        help="run your own program as it is and parallelised, and compare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_target(parser, "package.module:object or file.py:object; with () at its end, it is called", required=True)
    parser.add_argument("--html", metavar="OUT", help="write a page with both timelines")
    parser.add_argument(
        "--replay",
        metavar="FILE",
        help="for --serve, which it implies: a timeline saved as JSON, or seconds: a number, a list, lists by model",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    from ..compare.two_runs import compare
    from ..errors import DSPyParallelError
    from ..timeline.files import check_writable
    from .loopback import LATENCY, load_latencies, served
    from .target_spec import load_inputs, load_target

    with ExitStack() as stack:
        try:
            inputs = load_inputs(options.input)
            server = None
            if options.serve or options.replay:
                latency = load_latencies(options.replay) if options.replay else LATENCY
                server = stack.enter_context(served(latency=latency))
            target = load_target(options.target)
            if options.html:
                check_writable(options.html)
            compared = compare(target, inputs, server)
        except DSPyParallelError as error:
            complain(error)
            return 2
    return show(target.name, compared, html=options.html, as_json=options.json)


def show(name: str, compared: Comparison, *, html: str | None = None, as_json: bool = False) -> int:
    """Print a comparison, and write its page.

    Returns:
        The exit code.
    """
    from ..compare.comparison_report import as_data, as_html, lines
    from ..timeline.files import write_private

    if html:
        write_private(html, as_html(name, compared))
    if as_json:
        print(json.dumps(as_data(compared), indent=2))
    else:
        write(lines(compared, width()))
    if compared.different:
        return 1
    failed = [output for output in compared.before.outputs if isinstance(output, Exception)]
    if failed:
        complain(RuntimeError(f"Both ways it raised {type(failed[0]).__name__}: {failed[0]}"))
    return 3 if failed else 0
