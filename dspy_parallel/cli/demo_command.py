"""`dspy-parallel demo`: `compare` on an agent that comes with this package."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .compare_command import show
from .screen import complain, width, write

if TYPE_CHECKING:
    from ..compare.two_runs import Comparison
    from ..display import Line

__all__ = ["add_to"]

_DESCRIPTION = """\
Runs one level of a natural-language-to-Cypher agent: three extractors, each a sync DSPy module that calls its own
LM through LiteLLM and HTTP. First as it stands, one call after the other; then with overlap. Shows both timelines,
what was found, whether it is the same, and the ratio. Then, if LangGraph is installed, the same agent as a LangGraph:
with async nodes side by side, which call sync DSPy, and with sync nodes in a row.

Without --model, a server on 127.0.0.1 plays the LMs, with recorded latencies: no key, no network, no cost."""

_EPILOG = """\
exit codes: 0 the answers are the same; 1 they differ; 2 wrong options, or something is not installed;
3 an LM failed; 130 interrupted.

examples:
  dspy-parallel demo --questions 3
  OPENROUTER_API_KEY=... dspy-parallel demo --model openrouter/openai/gpt-oss-120b
  dspy-parallel demo --model openai/llama3.1 --api-base http://127.0.0.1:11434/v1 --api-key none"""


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "demo",
        help="compare on an agent that comes with this package",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--questions", type=int, default=1, metavar="N", help="the first N questions (default: 1)")
    parser.add_argument(
        "--scale", type=float, default=1.0, metavar="X", help="multiply the recorded latencies (default: 1)"
    )
    provider = parser.add_argument_group("a real provider instead of the loopback server")
    provider.add_argument("--model", help="for all extractors, as LiteLLM names it: provider/model")
    provider.add_argument("--api-base", metavar="URL", help="where the provider's API is, with http(s)://")
    provider.add_argument(
        "--api-key", metavar="KEY", help="better in the environment, as LiteLLM expects it (OPENAI_API_KEY, ...)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run, parser=parser)


def _run(options: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = options.parser
    for option in ("api_base", "api_key"):
        if getattr(options, option) and not options.model:
            parser.error(f"--{option.replace('_', '-')} is for a real provider: name its model too, with --model")
    if options.api_base and not options.api_base.startswith(("http://", "https://")):
        parser.error(f"--api-base {options.api_base!r} is no URL; it begins with http:// or https://")
    if options.model and options.scale != 1.0:
        parser.error("--scale is for the recorded latencies; a real provider takes the time it takes")
    if not 0 < options.scale < 1000:
        parser.error("--scale is a number over 0 and under 1000")

    from ..compare.two_runs import compare
    from ..demo import agent_module
    from ..doctor.target import as_target
    from ..errors import DSPyParallelError

    recording = agent_module("level_agent.recorded").load()
    if not 1 <= options.questions <= len(recording.questions):
        parser.error(f"--questions {options.questions}: there are 1 to {len(recording.questions)}")
    questions = recording.questions[: options.questions]
    inputs = [{name: value for name, value in vars(question).items() if name != "text"} for question in questions]
    if not options.json:
        write(_header(options, recording.latency_seconds))
    codes, found = [], {}
    with ExitStack() as stack:
        try:
            server = _lms(options, recording, stack)
            phase = agent_module("level_agent.phase")
            targets = [("one function", as_target(phase.extract), inputs)]
            if importlib.util.find_spec("langgraph") is not None:
                graphs = agent_module("level_agent_graph.graphs")
                states = [{"question": question} for question in questions]
                for title, graph in graphs.extraction_graphs().items():
                    targets.append((f"the same as a LangGraph, {title}", as_target(graph, "graph"), states))
            elif not options.json:
                write([[("LangGraph is not installed (the extra is langgraph): its graph is left out.", "dim")], []])
            for title, target, given in targets:
                if not options.json:
                    write([[(f"-- {title} --", "bold")], *([(question.text, "")] for question in questions), []])
                compared = compare(target, given, server)
                failed = [output for output in compared.before.outputs if isinstance(output, Exception)]
                if failed:
                    raise failed[0]
                found[title] = compared
                if not options.json:
                    codes.append(show(target.name, compared))
                    write(_answers(compared))
        except DSPyParallelError as error:
            complain(error)
            return 2
        except Exception as error:
            hidden = str(error).replace(options.api_key, "***") if options.api_key else str(error)
            complain(RuntimeError(f"The demo's LM call failed. {type(error).__name__}: {hidden}"))
            advice = "Check --model (as LiteLLM names it), --api-base and the key."
            print(advice if options.model else "Please report this.", file=sys.stderr)
            return 3
    if options.json:
        print(json.dumps({title: _as_data(compared) for title, compared in found.items()}, indent=2, default=_plain))
        codes = [int(bool(compared.different)) for compared in found.values()]
    return max(codes)


def _lms(options: argparse.Namespace, recording: Any, stack: ExitStack) -> Any:
    """Have the loopback server, or the provider, answer all LMs of the agent, which are made after this."""
    from .loopback import redirected, served

    if not options.model:
        return stack.enter_context(served(replies=recording.rules(options.scale)))
    given = {name: value for name in ("api_base", "api_key") if (value := getattr(options, name))}
    stack.enter_context(redirected(lambda named: options.model, given))
    return None


def _header(options: argparse.Namespace, latencies: dict[str, float]) -> Iterator[Line]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("dspy", "litellm"))
    source = options.model or "a server on 127.0.0.1 that replays recorded latencies"
    if options.scale != 1.0:
        source += f" times {options.scale:g}"
    yield [("One level of a natural-language-to-Cypher agent: three extractors, three LM calls a question.", "bold")]
    yield [(f"LMs: {source}. {versions}. Not measured: LiteLLM's import, and each LM's first call.", "dim")]
    if not options.model:
        seconds = 3 * (options.questions * sum(latencies.values()) + max(latencies.values())) * options.scale
        yield [(f"This takes about {seconds + 6:.0f} s.", "dim")]
    yield []


def _answers(compared: Comparison) -> Iterator[Line]:
    """What was found, once if it is the same both ways."""
    from ..escapes import escaped

    ways = [("found both ways", compared.before)]
    if compared.different:
        ways = [("found as it is", compared.before), ("found parallelised", compared.after)]
    for title, run in ways:
        for number, output in enumerate(run.outputs, 1):
            yield [(f"{title}{f', question {number}' if len(run.outputs) > 1 else ''}", "bold")]
            for name, value in output.items():
                if name != "question" and not hasattr(value, "toDict"):  # predictions are in the query
                    for line in textwrap.wrap(escaped(f"{name}: {_shown(value)}"), width() - 4):
                        yield [(f"    {line}", "")]
    yield []


def _shown(value: Any) -> str:
    value = getattr(value, "query", value)  # a query with its parameters, or what the graph has it in
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return str(getattr(value, "text", value)).replace("\n", " ")


def _as_data(compared: Comparison) -> dict[str, Any]:
    from ..compare.comparison_report import as_data

    return {**as_data(compared), "answers": {"before": compared.before.outputs, "after": compared.after.outputs}}


def _plain(value: Any) -> Any:
    from ..compare.differences import plain_data

    plain = plain_data(value)
    return str(value) if plain is value else plain
