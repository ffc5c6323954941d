"""The command `dspy-parallel demo`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import GraphRuns
    from .measure import Comparison

__all__ = ["add_to"]

_DESCRIPTION = """\
Runs one level of a natural-language-to-Cypher agent: three extractors, each a sync DSPy module that calls its own
LM through LiteLLM and HTTP. First as it stands, one call after the other; then with @async_module on each
extractor, awaited together. Shows both timelines, the answers side by side, the queries and the ratio.

Then the same agent as a LangGraph, if that is installed: with sync nodes, with async nodes that call sync DSPy, and
parallelised; three nodes side by side, and one node many times over.

Without --model, a server on 127.0.0.1 plays the LMs, with recorded latencies: no key, no network, no cost."""

_EPILOG = """\
exit codes: 0 the answers are the same; 1 they differ; 2 wrong options, or something is not installed;
3 an LM failed; 130 interrupted.

examples:
  dspy-parallel demo --questions 1
  OPENROUTER_API_KEY=... dspy-parallel demo --model openrouter/openai/gpt-oss-120b
  dspy-parallel demo --model openai/llama3.1 --api-base http://127.0.0.1:11434/v1 --api-key none"""

_STYLES = {"bold": "bold", "dim": "dim", "before": "yellow", "after": "green", "good": "bold green", "bad": "bold red"}


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="run a real agent as it stands and with @async_module, and compare",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what to run")
    number = what.add_mutually_exclusive_group()
    number.add_argument(
        "--questions", type=_positive, default=3, metavar="N", help="the first N questions (default: 3)"
    )
    number.add_argument("--all", action="store_true", help="all questions")
    what.add_argument(
        "--engine", choices=("auto", "loop", "thread"), default="auto", help="of @async_module (default: auto)"
    )
    what.add_argument(
        "--scale", type=_positive_number, default=1.0, metavar="X", help="multiply the recorded latencies (default: 1)"
    )
    what.add_argument(
        "--graph",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the LangGraph too (default: yes, if LangGraph is installed)",
    )
    provider = parser.add_argument_group("a real provider instead of the loopback server")
    provider.add_argument("--model", help="for all extractors, as LiteLLM names it: provider/model")
    provider.add_argument("--api-base", type=_url, metavar="URL", help="where the provider's API is, with http(s)://")
    provider.add_argument(
        "--api-key", metavar="KEY", help="better in the environment, as LiteLLM expects it (OPENAI_API_KEY, ...)"
    )
    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="print the result as JSON")
    output.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="tell on stderr what is being waited for (default: if it is a terminal)",
    )
    parser.set_defaults(run=_run, parser=parser)


def _positive(text: str) -> int:
    number = int(text) if text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return number


def _positive_number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number over 0 and under 1000")
    return number


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is no URL; it begins with http:// or https://")
    return text


def _run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    for option in ("api_base", "api_key"):
        if getattr(options, option) and not options.model:
            parser.error(f"--{option.replace('_', '-')} is for a real provider: name its model too, with --model")
    if options.model and options.scale != 1.0:
        parser.error("--scale is for the recorded latencies; a real provider takes the time it takes")
    if not options.model and importlib.util.find_spec("aiohttp") is None:
        parser.exit(2, "The loopback server needs aiohttp: pip install 'dspy-parallel[testing]'\n")
    # Else LiteLLM fetches its price list when it is imported; without a network that takes a while, and warns.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

    # Here, so that `--help` and wrong options don't wait for DSPy.
    from .graph import load_graphs, run_graphs
    from .measure import compare, level_agent
    from .progress import Progress

    progress = Progress(options.progress)
    recording = level_agent("recorded").load()
    questions = recording.questions if options.all else recording.questions[: options.questions]
    if not options.all and options.questions > len(questions):
        parser.error(f"--questions {options.questions}: there are {len(questions)}")
    graphs: Any = load_graphs() if options.graph else None
    if not options.json:
        for text in _header(options, len(questions), recording.latency_seconds, isinstance(graphs, ModuleType)):
            print(text, flush=True)
    try:
        with ExitStack() as stack:
            with progress.waiting("start of the loopback server") if not options.model else nullcontext():
                lms = _lms(options, recording, stack)
            compared = compare(questions, lms, options.engine, progress.waiting)
            ran: Any = graphs  # why there are none
            if isinstance(graphs, ModuleType):
                wide = not options.model  # a provider's calls cost money
                ran = run_graphs(graphs, recording.questions, lms, progress.waiting, wide=wide)
    except Exception as error:
        print(_lm_failed(error, options), file=sys.stderr)
        return 3
    _show(compared, ran, options)
    return 0 if all(c.same for c in compared) and getattr(ran, "same", True) else 1


def _lms(options: argparse.Namespace, recording: Any, stack: ExitStack) -> list[Any]:
    """The LM of the time extractor, and that of the two others."""
    from .measure import level_agent

    models = level_agent("models")
    if options.model:
        given = {name: value for name in ("api_base", "api_key") if (value := getattr(options, name))}
        lm = models.litellm_lm(options.model, **given)
        return [lm, lm]

    from ..testing import LMServer

    server = stack.enter_context(LMServer(replies=recording.rules(options.scale)))
    # "openai/" names the protocol, not the provider.
    return [
        models.litellm_lm(f"openai/{name}", **server.lm_kwargs()) for name in (models.QWEN3_235B, models.GPT_OSS_120B)
    ]


def _header(options: argparse.Namespace, questions: int, latencies: dict[str, float], graphs: bool) -> list[str]:
    from .graph import seconds_of

    versions = f"DSPy {importlib.metadata.version('dspy')}, LiteLLM {importlib.metadata.version('litellm')}"
    python = ".".join(map(str, sys.version_info[:3]))
    if options.model:
        source = f"{options.model} for all three"
    elif options.scale == 1.0:
        source = "a server on 127.0.0.1 that replays recorded latencies"
    else:
        source = f"a server on 127.0.0.1 that replays recorded latencies times {options.scale:g}"
    seconds = questions * sum(latencies.values()) * 1.6 + (seconds_of(latencies) if graphs else 0)
    wait = "" if options.model else f" This takes about {seconds * options.scale + 4:.0f} s."
    return [
        "One level of a natural-language-to-Cypher agent: three extractors, three LM calls for each question.",
        f"LMs: {source}. {versions}, Python {python}, engine {options.engine}.",
        f"Not measured: LiteLLM's import, and each LM's first call.{wait}",
        "",
    ]


def _lm_failed(error: Exception, options: argparse.Namespace) -> str:
    reason = f"{type(error).__name__}: {error}".strip()
    if options.api_key:
        reason = reason.replace(options.api_key, "***")
    advice = (
        "Check --model (as LiteLLM names it), --api-base and the key."
        if options.model
        else "The LM is the loopback server of this package; please report this."
    )
    return f"The demo's LM call failed. {reason}\n{advice}"


def _show(compared: Sequence[Comparison], ran: GraphRuns | str | None, options: argparse.Namespace) -> None:
    from .graph_report import graph_as_data, graph_lines
    from .report import Line, as_data, lines, summary

    if options.json:
        about = {"model": options.model, "engine": options.engine, "scale": options.scale}
        versions = {name: importlib.metadata.version(name) for name in ("dspy-parallel", "dspy", "litellm")}
        graph = None if ran is None or isinstance(ran, str) else graph_as_data(ran)
        print(json.dumps({**about, "versions": versions, **as_data(compared), "graph": graph}, indent=2))
        return
    width = max(72, min(shutil.get_terminal_size((100, 24)).columns, 140))
    unicode = _can_write("█")
    shown: list[Line] = []
    for number, one in enumerate(compared, 1):
        shown += [*lines(number, one, width, unicode=unicode), []]
    if isinstance(ran, str):
        shown += [[(ran, "")], []]
    elif ran is not None:
        shown += graph_lines(ran, width, unicode=unicode)
    _write([*shown, summary(compared)])


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _write(shown: Sequence[Sequence[tuple[str, str]]]) -> None:
    """In colour if rich is installed and stdout is a terminal; what an LM says must not steer that terminal."""
    from ..timeline.escaping import printable

    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False, soft_wrap=True)
        for line in shown:
            console.print(Text.assemble(*((printable(text), _STYLES.get(style, "")) for text, style in line)))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a model says may not fit the terminal's encoding
    for line in shown:
        print("".join(printable(text) for text, _ in line).rstrip())
