"""Blocking HTTP clients: requests, urllib3, httpx and the standard library's.

The request runs in a worker thread, with the client that the user made. (A twin on the async client of the same
library would need its connection pool, hooks and authentication rebuilt.) So does each piece of a streamed body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .async_counterparts import call_in_worker
from .table import Seam, in_thread, register

__all__: list[str] = []

_REASON = "it makes a blocking request"
_END = object()

_request = in_thread(_REASON)


def _pieces(
    original: Callable[..., Any], response: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[Any]:
    pieces = original(*args, **kwargs)
    if type(getattr(response, "stream", None)).__name__ == "ByteStream":  # httpx: a body in memory
        yield from pieces
        return
    try:
        while (piece := call_in_worker(next, (pieces, _END), {}, _REASON)) is not _END:
            yield piece
    finally:
        pieces.close()


register(
    Seam("requests.sessions:Session.send", _request, overrides=True),
    Seam("urllib3.connectionpool:HTTPConnectionPool.urlopen", _request),
    Seam("urllib3.response:HTTPResponse.stream", _pieces),
    Seam("httpx._client:Client.send", _request, overrides=True),
    Seam("httpx._models:Response.iter_raw", _pieces),
    Seam("httpx2._client:Client.send", _request, overrides=True),
    Seam("httpx2._models:Response.iter_raw", _pieces),
    Seam("urllib.request:OpenerDirector.open", _request),
    *(Seam(f"http.client:HTTPResponse.{method}", _request) for method in ("read", "read1", "readinto", "readline")),
)
