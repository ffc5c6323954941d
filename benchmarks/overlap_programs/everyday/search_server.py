"""A search engine on loopback for programs that retrieve over HTTP; `SEARCH_URL` in the environment names it."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlparse

__all__ = ["SearchServer", "searching"]

SUBJECTS = ("owls", "bridges", "steel", "tea", "rivers", "Bernoulli numbers", "the tides", "maps")


def passages(query: str, k: int) -> list[dict[str, Any]]:
    """The k best for a query: the same ones each time."""
    first = int(sha256(query.encode()).hexdigest()[:6], 16)
    texts = [f"{SUBJECTS[(first + n) % len(SUBJECTS)]} | Page {(first + n) % 97} says more." for n in range(k)]
    return [{"pid": first + n, "score": round(20 - n / 2, 2), "text": text} for n, text in enumerate(texts)]


class SearchServer(ThreadingHTTPServer):
    """Answers `/search?query=…&k=…` as ColBERTv2's server does.

    Attributes:
        queries: What it was asked, in that order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.queries: list[str] = []
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/search"

    def answer(self, query: str, k: int) -> bytes:
        with self.lock:
            self.queries.append(query)
        return json.dumps({"topk": passages(query, k)}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: SearchServer

    def do_GET(self) -> None:
        asked = parse_qs(urlparse(self.path).query)
        self._send(asked["query"][0], int(asked.get("k", ["3"])[0]))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(asked["query"], int(asked.get("k", 3)))

    def _send(self, query: str, k: int) -> None:
        body = self.server.answer(query, k)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def searching() -> Iterator[SearchServer]:
    """A server, and the environment that names it."""
    server = SearchServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    before = os.environ.get("SEARCH_URL")
    os.environ["SEARCH_URL"] = server.url
    try:
        yield server
    finally:
        if before is None:
            del os.environ["SEARCH_URL"]
        else:
            os.environ["SEARCH_URL"] = before
        server.shutdown()
        thread.join()
        server.server_close()
