"""The server as a command: ``python -m dspy_parallel.testing --port 0 --latency 0.2``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspy_parallel.errors import installation

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Start the server; stop on SIGTERM or SIGINT.

    When it listens, it prints one JSON line with its `api_base`, and the `token` that control requests need.

    Args:
        arguments: The command line without the program's name; by default that of the process.

    Returns:
        The exit status: 0, or 2 if an option is wrong.

    Example:
        ``python -m dspy_parallel.testing --latency 0.2 --option max_concurrency=8``
    """
    parser = argparse.ArgumentParser(prog="python -m dspy_parallel.testing", description="A loopback LM server.")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--latency", type=float, help="seconds from request to reply")
    parser.add_argument("--config", help="JSON object of options, or @FILE that contains one")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=JSON", help="an option of LMServer; may be repeated"
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when stdin closes")
    given = parser.parse_args(arguments)
    try:
        from dspy_parallel.testing.request_handler import App
        from dspy_parallel.testing.server_process import run
    except ModuleNotFoundError as error:
        parser.exit(2, f"{error}. The test server needs: {installation('testing')}\n")
    app = App()
    try:
        app.settings.change(_options(given))
    except ValueError as error:
        parser.error(str(error))
    run(app, port=given.port, stop_with_stdin=given.stop_with_stdin)
    return 0


def _options(given: argparse.Namespace) -> dict[str, Any]:
    text = given.config or "{}"
    options: dict[str, Any] = json.loads(Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text)
    for option in given.option:
        name, _, value = option.partition("=")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value  # a bare word
    return options if given.latency is None else {**options, "latency": given.latency}


if __name__ == "__main__":
    sys.exit(main())
