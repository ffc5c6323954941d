"""A plain HTTP server on loopback, which can hold its replies until enough requests are in."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        web = self.server.web
        path, _, query = self.path.partition("?")
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        web.paths.append(path)
        if path == "/redirect":
            self._reply(302, b"", Location="/plain")
            return
        if web.barrier is not None:
            web.barrier.wait(100)
        if path == "/stream":
            self._stream()
        elif path == "/missing":
            self._reply(404, b"not here")
        elif path == "/topk":
            passages = [{"text": f"passage {n} for {query}", "pid": n, "rank": n, "score": 1.0} for n in range(10)]
            self._reply(200, json.dumps({"topk": passages}).encode(), **{"Content-Type": "application/json"})
        else:
            self._reply(200, b"plain text")

    do_POST = do_GET

    def _stream(self) -> None:
        """Three chunks, each sent only after the client's program has let it go."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for n in range(3):
            if self.server.web.barrier is not None and n:
                self.server.web.barrier.wait(100)
            piece = f"piece {n}\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def _reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    web: Web


class Web:
    """The server and what it has seen."""

    def __init__(self) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.web = self
        self.barrier: threading.Barrier | None = None
        self.paths: list[str] = []
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def meet(self, count: int) -> None:
        """Answer only when that many requests wait for an answer."""
        self.barrier = threading.Barrier(count)

    def __enter__(self) -> Web:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(100)
