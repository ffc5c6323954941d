"""Blocking HTTP clients: requests, urllib3 and httpx.

The request runs in a worker thread, with the client that the user made. (A twin on the async client of the same
library would need its connection pool, hooks and authentication rebuilt.)
"""

from __future__ import annotations

from .table import Seam, in_thread, register

__all__: list[str] = []

_request = in_thread("it makes a blocking request")

register(
    Seam("requests.sessions:Session.send", _request, overrides=True),
    Seam("urllib3.connectionpool:HTTPConnectionPool.urlopen", _request),
    Seam("httpx._client:Client.send", _request, overrides=True),
    Seam("httpx2._client:Client.send", _request, overrides=True, optional=True),
)
