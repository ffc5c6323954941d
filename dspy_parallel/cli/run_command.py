"""`dspy-parallel run`: an unmodified script or module with everything on."""

from __future__ import annotations

import argparse
import atexit
import builtins
import importlib.machinery
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import TargetError, TimelineError
from .screen import complain

if TYPE_CHECKING:
    from ..timeline import Timeline

__all__ = ["add_to", "run", "split"]

_DESCRIPTION = """\
Runs a Python script, or a module with -m, as Python does, and parallelised: modules can be awaited and overlap inside
(install(executors=True, overlap=True)), graphs that it compiles go through parallelize_graph(overlap=True). Its
arguments, stdin, stdout, exit code and Ctrl-C are what they are without. At the end, one line on stderr says what the
LM calls came to, and what stopped overlap most."""

_EPILOG = """\
exit codes: that of the script; 2 wrong options, or no such script.

examples:
  dspy-parallel run script.py --its-own option
  dspy-parallel run --record run.html --limit 50 -m package.module
  python -W error -m dspy_parallel run script.py"""

_VALUED = ("--record", "--limit")


def add_to(commands: Any) -> None:
    """Add the command to the subparsers of `dspy-parallel`."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "run",
        help="run an unmodified script, parallelised",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        usage="dspy-parallel run [options] (script.py | -m module) ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--record", metavar="OUT", help="save the timeline: *.html, *.svg, *.txt, *.json, *.trace.json")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N requests at a time to each LM")
    parser.add_argument("--no-overlap", action="store_true", help="calls inside one forward() or node keep their order")
    parser.add_argument("--thread", action="store_true", help="programs run in threads, never on the event loop")
    parser.add_argument("--live", action="store_true", help="show what is in flight, waiting and done while it runs")
    parser.add_argument("--quiet", action="store_true", help="no line at the end")
    parser.set_defaults(run=run, parser=parser)


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Set apart what is the script's: from its name, or from `-m`, on."""
    if not arguments or arguments[0] != "run":
        return list(arguments), []
    at = 1
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] != "-m":
        at += 2 if arguments[at] in _VALUED else 1
    return list(arguments[:at]), list(arguments[at:])


def run(options: argparse.Namespace) -> int:
    """Run what is named; see `--help`."""
    parser: argparse.ArgumentParser = options.parser
    theirs = list(options.rest)
    is_module = theirs[:1] == ["-m"]
    if len(theirs) < 1 + is_module:
        parser.error("name a script, or a module after -m")

    from ..timeline.files import check_writable
    from ..timeline.timelines import ENDINGS

    try:
        if options.record:
            check_writable(options.record, *ENDINGS)
        code, main = _of_module(theirs[1]) if is_module else _of_script(theirs[0])
    except (TargetError, TimelineError) as error:
        complain(error)
        return 2
    sys.argv = [str(main.__file__), *theirs[1 + is_module :]] if is_module else theirs
    sys.modules["__main__"] = main  # for good: threads and atexit functions outlive the last line of a script
    _prepare(options)
    try:
        exec(code, vars(main))
    except SystemExit:
        raise
    except BaseException as error:
        _show(error)
        if isinstance(error, KeyboardInterrupt):
            sys.excepthook = lambda *of_error: None  # it has been shown; the interpreter ends as by the signal
            raise
        return 1
    return 0


def _of_script(path: str) -> tuple[CodeType, ModuleType]:
    file = Path(path).absolute()
    if file.is_dir():
        raise TargetError(f"{path} is a folder. Name a script, or a package after -m.")
    try:
        source = file.read_bytes()
    except OSError as error:
        raise TargetError(f"{path} cannot be read: {error.strerror or error}.") from error
    _put_first_on_path(str(file.resolve().parent))
    loader = importlib.machinery.SourceFileLoader("__main__", str(file))
    return _compiled(source, str(file)), _main(__file__=str(file), __loader__=loader, __cached__=None)


def _of_module(name: str) -> tuple[CodeType, ModuleType]:
    _put_first_on_path(os.getcwd())
    try:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{name}.__main__")
    except (ImportError, ValueError, AttributeError) as error:
        raise TargetError(f"No module {name!r} can be run: {error}.") from error
    loader: Any = None if spec is None else spec.loader
    if spec is None or not hasattr(loader, "get_code"):
        raise TargetError(f"There is no module {name!r} that can be run.")
    code: Any = loader.get_code(spec.name)
    about = {"__spec__": spec, "__package__": spec.name.rpartition(".")[0], "__cached__": spec.cached}
    return code, _main(__file__=spec.origin, __loader__=loader, **about)


def _main(**about: Any) -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={}, **about)
    return main


def _compiled(source: bytes, path: str) -> CodeType:
    try:
        return compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as error:
        sys.excepthook(type(error), error.with_traceback(None), None)
        raise SystemExit(1) from None


def _put_first_on_path(folder: str) -> None:
    """In the place of what Python has put there for this command."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[:1] = [folder]


def _prepare(options: argparse.Namespace) -> None:
    """Switch everything on, and have the line written when all threads have ended."""
    from ..limits import limit_all
    from ..modules import install
    from ..timeline import record

    stack = ExitStack()
    timeline = stack.enter_context(record(everywhere=True, save=options.record, live=options.live))
    engine: Any = "thread" if options.thread else "auto"
    overlap = not options.no_overlap
    install(engine=engine, executors=True, overlap=overlap)
    _convert_graphs(engine, overlap)
    if options.limit is not None:
        limit_all(max_in_flight=options.limit)
    process = os.getpid()

    def close() -> None:
        if os.getpid() != process:  # a fork ends by itself
            return
        stack.close()
        if not options.quiet:
            print(_line(timeline), file=sys.stderr)

    atexit.register(close)


def _convert_graphs(engine: Any, overlap: bool) -> None:
    """Have each graph parallelised that is compiled from now on."""
    from ..seams.graph_builds import when_compiled

    def convert(graph: Any) -> Any:
        from ..langgraph import parallelize_graph

        return parallelize_graph(graph, engine=engine, overlap=overlap)

    when_compiled(convert)


def _line(timeline: Timeline) -> str:
    from ..escapes import escaped

    figures = timeline.figures
    if not figures.lm_calls:
        return "dspy-parallel: no LM call was seen."
    said = (
        f"dspy-parallel: {figures.lm_seconds:.2f} s of LM time in {figures.lm_calls:,} calls took "
        f"{figures.makespan:.2f} s: parallelism {figures.parallelism:.2f}"
    )
    stops = Counter(span.name for span in timeline.spans if span.kind == "stop")
    if stops:
        ((name, times),) = stops.most_common(1)
        said += f"; overlap stopped most at {name}" + (f" ({times} times)" if times > 1 else "")
    return escaped(f"{said}.")


def _show(error: BaseException) -> None:
    """What Python prints of an error that nobody catches, which has nothing of this package."""
    from ..seams.tracebacks import PACKAGE, hide_frames

    hide_frames(error, PACKAGE)
    sys.excepthook(type(error), error, error.__traceback__)
