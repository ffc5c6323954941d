"""The server's request handler: from bytes to a reply, with every delay, limit and fault in between."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dspy_parallel.testing import faults, sse, wire
from dspy_parallel.testing.conversation import Conversation, read_conversation
from dspy_parallel.testing.errors import SettingsError
from dspy_parallel.testing.holds import Holds
from dspy_parallel.testing.limits import Limits, Rejection
from dspy_parallel.testing.replies import Reply, choose_rule, reply_to
from dspy_parallel.testing.settings import Fault, Rule, Settings
from dspy_parallel.testing.stats import Entry, Recorder

__all__ = ["App"]

_CONTROL = "/_control/"
_BODIES = {
    "/v1/chat/completions": (wire.chat_completion, sse.chat_events),
    "/v1/completions": (wire.completion, sse.completion_events),
    "/v1/responses": (wire.response, sse.response_events),
}
WRONG_CONTENT = "I am sorry, but there is nothing that I can say about that."


class App:
    """All state of one server; everything happens on one event loop."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.recorder = Recorder()
        self.limits = Limits(self.settings, self.recorder)
        self.holds = Holds(self.settings, self.recorder)
        self._replayed: dict[str, int] = {}
        self._repeats: dict[str, int] = {}
        self._connections: set[RequestHandler] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of a client, or of the test that controls the server."""
        start = time.monotonic()
        path = request.raw_path.partition("?")[0]
        if path.startswith(_CONTROL):
            return await self._control(path[len(_CONTROL) :], await request.read())
        if path == "/v1/models":
            return _json(wire.model_list(self.settings.models))
        if request.method != "POST" or not (path in _BODIES or path == "/v1/embeddings"):
            return faults.error_response("400", f"{request.method} {path} is not an endpoint of this server.")
        raw = await request.read()
        try:
            body = json.loads(raw)
            model = str(body["model"])
            conversation = read_conversation(path, body, model)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return faults.error_response("400", f"The request's body is not valid: {error!r}.")
        if (complaint := _complaint(body, request.headers)) is not None:
            return faults.error_response("400", complaint)
        self._count_connection(request)
        entry = self.recorder.begin(path, model, start, logged=self.settings.log)
        if self.settings.log_bodies:
            entry.body = body
        try:
            await self.limits.enter()
        except Rejection as rejection:
            self.recorder.rejected[rejection.reason] += 1
            self.recorder.finish(entry, 429)
            return faults.error_response("429", f"Rate limit reached ({rejection.reason}).", rejection.retry_after)
        except asyncio.CancelledError:
            self._client_left(entry)
            raise
        try:
            return await self._serve(request, entry, body, conversation)
        except (asyncio.CancelledError, ConnectionError):
            self._client_left(entry)
            raise
        finally:
            self.limits.leave()

    async def _serve(
        self, request: web.BaseRequest, entry: Entry, body: Mapping[str, Any], conversation: Conversation
    ) -> web.StreamResponse:
        settings, model = self.settings, entry.model
        rule = choose_rule(settings.replies, entry.ordinal, model, conversation)
        fault = rule.fault if rule is not None else None
        if fault is None:
            fault = faults.choose_fault(settings.faults, entry.ordinal, model, conversation)
        entry.latency = self._latency(request, model, rule)
        if fault is not None:
            entry.fault = fault.kind
            self.recorder.faults[fault.kind] += 1
            self.recorder.changed()
        if not await self.holds.pass_through():
            self.recorder.finish(entry, 503)
            return faults.error_response("503", f"The request was held for {settings.max_hold:g} s and never released.")
        if fault is not None and (failed := await self._fail(request, entry, fault)) is not None:
            return failed
        due = entry.start + entry.latency
        if entry.path == "/v1/embeddings":
            reply_body = wire.embeddings(model, body, settings.embedding_size)
            return await self._reply(request, entry, fault, wire.encode(reply_body), due)
        count = int(body.get("n") or 1)
        first = self._asked_before(conversation, count) if settings.vary else 0
        replies = [reply_to(conversation, rule, settings, first + choice) for choice in range(count)]
        if entry.fault == "wrong_content":
            replies = [Reply(WRONG_CONTENT)] * count
        plain, streamed = _BODIES[entry.path]
        if body.get("stream"):
            return await self._stream(request, entry, fault, streamed(model, conversation, replies, body))
        return await self._reply(request, entry, fault, wire.encode(plain(model, conversation, replies)), due)

    async def _reply(
        self, request: web.BaseRequest, entry: Entry, fault: Fault | None, payload: bytes, due: float
    ) -> web.StreamResponse:
        """Send a whole body when it is due."""
        if fault is not None and fault.after is not None:
            due = entry.start + fault.after
        await _sleep_until(due)
        if entry.fault == "malformed_json":
            payload = faults.spoil(payload)
        if entry.fault == "truncated":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            return await self._cut(request, entry, head.encode() + faults.spoil(payload))
        self.recorder.finish(entry, 200)
        return web.Response(body=payload, content_type="application/json")

    async def _stream(
        self, request: web.BaseRequest, entry: Entry, fault: Fault | None, events: tuple[bytes, Sequence[bytes], bytes]
    ) -> web.StreamResponse:
        """Send the events, each when it is due."""
        opening, middle, closing = events
        if entry.fault == "malformed_json":
            middle = [faults.spoil(piece) + b"\n\n" for piece in middle]
        times = sse.schedule(len(middle), entry.latency, self.settings)
        stop = len(middle) // 2 if entry.fault == "truncated" else None
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        pending = opening
        for piece, at in zip(middle[:stop], times, strict=False):
            if entry.start + at > time.monotonic():
                if pending:
                    await response.write(pending)
                await _sleep_until(entry.start + at)
                pending = b""
            pending += piece
        if stop is not None:
            await response.write(pending)
            return await self._cut(request, entry, b"")
        if not middle:
            await _sleep_until(entry.start + entry.latency)
        await response.write(pending + closing)
        await response.write_eof()
        self.recorder.finish(entry, 200)
        return response

    async def _fail(self, request: web.BaseRequest, entry: Entry, fault: Fault) -> web.StreamResponse | None:
        """Fail as told; None if the failure is in the body, which is yet to come."""
        if faults.is_status(fault.kind):
            await _sleep_until(entry.start + (fault.after or 0.0))
            response = faults.error_response(fault.kind, fault.message, fault.retry_after)
            self.recorder.finish(entry, response.status)
            return response
        if fault.kind == "reset":
            await _sleep_until(entry.start + (fault.after or 0.0))
            return await self._cut(request, entry)
        if fault.kind == "stall":
            if fault.seconds is None:
                await asyncio.get_running_loop().create_future()
            await _sleep_until(entry.start + (fault.seconds or 0.0))
            return await self._cut(request, entry)
        return None

    async def _cut(self, request: web.BaseRequest, entry: Entry, part: bytes | None = None) -> web.StreamResponse:
        """Close the connection, by a reset or after `part` of a reply.

        The handler is cancelled once the connection is closed, and that is not the client's doing.
        """
        self.recorder.finish(entry, None)
        transport = request.transport
        if transport is not None and part is None:
            faults.reset(transport)
        elif transport is not None and part is not None:
            transport.write(part)
            transport.close()
        closed: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await closed

    def _asked_before(self, conversation: Conversation, count: int) -> int:
        """How many alternatives of a reply have been given away already."""
        first = self._repeats.get(conversation.digest, 0)
        self._repeats[conversation.digest] = first + count
        return first

    def _client_left(self, entry: Entry) -> None:
        if entry.end is None:
            self.recorder.disconnects += 1
            self.recorder.finish(entry, None)

    def _latency(self, request: web.BaseRequest, model: str, rule: Rule | None) -> float:
        """Seconds from the most particular source: header, suffix of the model's name, rule, option."""
        if (given := request.headers.get("x-latency")) is not None:
            return float(given)
        suffix = model.rpartition("@")[2] if "@" in model else ""
        if suffix.replace(".", "", 1).isdecimal():
            return float(suffix)
        if rule is not None and rule.latency is not None:
            return rule.latency
        latency = self.settings.latency
        if isinstance(latency, Mapping):
            latency = latency.get(model, latency.get("*", 0.0))
        if isinstance(latency, (int, float)):
            return latency
        place = self._replayed.get(model, 0)
        self._replayed[model] = place + 1
        return float(latency[place % len(latency)])

    def _count_connection(self, request: web.BaseRequest) -> None:
        if request.protocol not in self._connections:
            self._connections.add(request.protocol)
            self.recorder.connections += 1
            self.recorder.peak_connections = max(self.recorder.peak_connections, self.recorder.connections)

    def connection_closed(self, protocol: RequestHandler) -> None:
        """Forget a connection that carried requests."""
        if protocol in self._connections:
            self._connections.discard(protocol)
            self.recorder.connections -= 1
            self.recorder.changed()

    async def _control(self, what: str, raw: bytes) -> web.StreamResponse:
        """Serve the test: options, statistics, waiting, releasing."""
        data = json.loads(raw) if raw else {}
        recorder = self.recorder
        if what == "configure":
            try:
                self.settings.change(data)
            except (SettingsError, TypeError) as error:
                return _json({"error": str(error)}, status=400)
            self.holds.open()
            self.limits.reconsider()
            return _json({})
        if what == "stats":
            return _json(recorder.snapshot())
        if what == "log":
            return _json({"log": [entry.as_dict() for entry in recorder.log]})
        if what == "reset":
            self._reset()
            return _json(recorder.snapshot())
        if what == "restore":
            await self._restore(data)
            return _json(recorder.snapshot())
        if what == "release":
            self.holds.release(data.get("count"))
            return _json({})
        if what == "wait":
            try:
                reached = await recorder.wait(data["counts"], data["timeout"])
            except AttributeError as error:
                return _json({"error": f"No such statistic: {error}"}, status=400)
            return _json({"reached": reached, "stats": recorder.snapshot()})
        return _json({"error": f"No control named {what!r}."}, status=404)

    async def _restore(self, options: Mapping[str, Any]) -> None:
        """Cut off whoever is connected, and be like a new server."""
        for option in fields(Settings):
            setattr(self.settings, option.name, getattr(Settings(), option.name))
        self.settings.change(options)
        for protocol in list(self._connections):
            protocol.force_close()
        # Only then do clients find their pooled connections closed, before they send another request.
        await self.recorder.wait({"in_flight": 0, "queued": 0, "connections": 0}, 5.0)
        self._reset()

    def _reset(self) -> None:
        """Start counts, ordinals and everything that depends on them anew."""
        self._replayed.clear()
        self._repeats.clear()
        self.limits.forget()
        for rule in self.settings.replies:
            rule.used = 0
        for fault in self.settings.faults:
            fault.seen = fault.injected = 0
            fault.failed.clear()
        self.recorder.reset()


def _complaint(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """What is wrong with the options of a request, if anything is."""
    for name in ("n", "dimensions"):
        number = body.get(name)
        if number is not None and (type(number) is not int or number < 1):
            return f"{name} is {number!r}; give a whole number from 1."
    if not isinstance(options := body.get("stream_options"), Mapping | None):
        return f"stream_options is {options!r}; give an object."
    latency = headers.get("x-latency", "0")
    try:
        if 0 <= float(latency) < math.inf:
            return None
    except ValueError:
        pass
    return f"The header x-latency is {latency!r}; give a number of seconds."


async def _sleep_until(due: float) -> None:
    """Wait for a moment of the monotonic clock; never early, though loops round their timers."""
    while (rest := due - time.monotonic()) > 0:  # noqa: ASYNC110 - a clock, not a condition
        await asyncio.sleep(max(rest, 0.001))


def _json(body: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=wire.encode(body), status=status, content_type="application/json")
