"""The server's request handler: from bytes to a reply, with every delay, limit and fault in between."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dspy_parallel.testing import control_channel, openai_bodies
from dspy_parallel.testing.admission import Admission, Rejection
from dspy_parallel.testing.completions import Reply, choose_fault, choose_rule, reply_to
from dspy_parallel.testing.conversation import Conversation, read_conversation
from dspy_parallel.testing.lm_server_errors import SettingsError
from dspy_parallel.testing.request_log import Entry, Recorder
from dspy_parallel.testing.server_options import STATUS_FAULTS, Rule, Settings

__all__ = ["App"]

_CONTROL = "/_control/"
_ENDPOINTS = ("/v1/chat/completions", "/v1/embeddings")
_MOST = {"n": 128, "dimensions": 8_192, "max_tokens": 10_000_000, "max_completion_tokens": 10_000_000}
"""What a request may ask for: as much as providers give. More would take the machine's memory, for no reply's sake."""
_MOST_INPUTS = 2_048
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NO_REPLY = (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, RecursionError)
_WRONG_CONTENT = Reply("I am sorry, but there is nothing that I can say about that.")


class App:
    """All state of one server; everything happens on one event loop."""

    def __init__(self) -> None:
        self.token = secrets.token_urlsafe()
        """What control requests have to show."""
        self.settings = Settings()
        self.recorder = Recorder()
        self.admission = Admission(self.settings, self.recorder)
        self._replayed: dict[str, int] = {}
        self._connections: set[RequestHandler] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of a client, or of the test that controls the server."""
        start = time.monotonic()
        path = request.raw_path.partition("?")[0]
        if path.startswith(_CONTROL):
            given = (request.headers.getall(name, []) for name in ("Host", "Origin", control_channel.TOKEN_HEADER))
            reason = control_channel.refusal(self.token, *given)
            if request.method != "POST":
                reason = reason or "Control requests are POST requests."
            if reason is not None:
                return _json({"error": reason}, status=403)
            return await self._control(path[len(_CONTROL) :], await request.read())
        if path == "/v1/models":
            return _json(openai_bodies.model_list(self.settings.models))
        if request.method != "POST" or path not in _ENDPOINTS:
            return _failure("400", f"{request.method} {path} is not an endpoint of this server.")
        try:
            body = json.loads(await request.read())
            model = str(body["model"])
            conversation = read_conversation(path, body, model)
        except _UNREADABLE as error:
            return _failure("400", f"The request's body is not valid: {error!r}.")
        if (complaint := _complaint(body)) is not None:
            return _failure("400", complaint)
        if request.protocol not in self._connections:
            self._connections.add(request.protocol)
            self.recorder.count("connections", 1)
        entry = self.recorder.begin(path, model, start, logged=self.settings.log)
        if self.settings.log_bodies:
            entry.body = body
        try:
            self.admission.enter()
        except Rejection as rejection:
            self.recorder.rejected[rejection.reason] += 1
            self.recorder.finish(entry, 429)
            return _failure("429", f"Rate limit reached ({rejection.reason}).", rejection.retry_after)
        try:
            return await self._serve(request, entry, body, conversation)
        except (asyncio.CancelledError, ConnectionError):
            if entry.end is None:  # else it is this server that closed the connection
                self.recorder.disconnects += 1
                self.recorder.finish(entry, None)
            raise
        finally:
            self.recorder.count("in_flight", -1)

    async def _serve(
        self, request: web.BaseRequest, entry: Entry, body: Mapping[str, Any], conversation: Conversation
    ) -> web.StreamResponse:
        settings, model = self.settings, entry.model
        rule = choose_rule(settings.replies, model, conversation)
        fault = (rule and rule.fault) or choose_fault(settings.faults, entry.ordinal, model, conversation)
        entry.latency = self._latency(model, rule)
        if fault is not None:
            entry.fault = fault.kind
            self.recorder.faults[fault.kind] += 1
            self.recorder.changed()
        if not await self.admission.pass_through():
            self.recorder.finish(entry, 503)
            return _failure("503", f"The request was held for {settings.max_hold:g} s and never released.")
        if fault is not None and fault.kind in STATUS_FAULTS:
            failed = _failure(fault.kind, fault.message, fault.retry_after)
            self.recorder.finish(entry, failed.status)
            return failed
        if entry.fault == "reset":
            return await self._cut(request, entry)
        if entry.fault == "stall":
            await asyncio.get_running_loop().create_future()
        if entry.path == "/v1/embeddings":
            return await self._reply(request, entry, openai_bodies.embeddings(model, body))
        try:
            count = int(body.get("n") or 1)
            replies = [reply_to(conversation, rule, settings.words, choice) for choice in range(count)]
        except _NO_REPLY as error:
            self.recorder.finish(entry, 400)
            return _failure("400", f"There is no reply to this request: {error!r:.200}.")
        if entry.fault == "wrong_content":
            replies = [_WRONG_CONTENT] * count
        if body.get("stream"):
            return await self._stream(request, entry, openai_bodies.chat_events(model, conversation, replies, body))
        return await self._reply(request, entry, openai_bodies.chat_completion(model, conversation, replies))

    async def _reply(self, request: web.BaseRequest, entry: Entry, body: Mapping[str, Any]) -> web.StreamResponse:
        """Send a whole body when it is due."""
        payload = openai_bodies.encode(body)
        await _sleep_until(entry.start + entry.latency)
        if entry.fault == "truncated":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
            return await self._cut(request, entry, head.encode() + _half(payload))
        self.recorder.finish(entry, 200)
        whole = _half(payload) if entry.fault == "malformed_json" else payload
        return web.Response(body=whole, content_type="application/json")

    async def _stream(
        self, request: web.BaseRequest, entry: Entry, events: tuple[bytes, Sequence[bytes], bytes]
    ) -> web.StreamResponse:
        """Send the events: spread evenly over the latency, or `inter_token_delay` apart."""
        pending, middle, closing = events
        count, between = len(middle), self.settings.inter_token_delay
        if between is None:
            between = entry.latency / max(1, count)
        first = max(0.0, entry.latency - between * (count - 1))
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for number, piece in enumerate(middle[: count // 2] if entry.fault == "truncated" else middle):
            if (due := entry.start + first + number * between) > time.monotonic():
                await response.write(pending)
                await _sleep_until(due)
                pending = b""
            pending += _half(piece) + b"\n\n" if entry.fault == "malformed_json" else piece
        if entry.fault == "truncated":
            await response.write(pending)
            return await self._cut(request, entry, b"")
        await _sleep_until(entry.start + entry.latency)
        await response.write(pending + closing)
        await response.write_eof()
        self.recorder.finish(entry, 200)
        return response

    async def _cut(self, request: web.BaseRequest, entry: Entry, part: bytes | None = None) -> web.StreamResponse:
        """Close the connection, by a reset or after `part` of a reply.

        The handler is cancelled once the connection is closed, and that is not the client's doing.
        """
        self.recorder.finish(entry, None)
        transport = request.transport
        if transport is not None and part is None:
            _reset_connection(transport)
        elif transport is not None and part is not None:
            transport.write(part)
            transport.close()
        closed: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
        return await closed

    def _latency(self, model: str, rule: Rule | None) -> float:
        """Seconds from the most particular source: suffix of the model's name, rule, option."""
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

    def connection_closed(self, protocol: RequestHandler) -> None:
        """Forget a connection that carried requests."""
        if protocol in self._connections:
            self._connections.discard(protocol)
            self.recorder.count("connections", -1)

    async def _control(self, what: str, raw: bytes) -> web.StreamResponse:
        """Serve the test: options, statistics, waiting, releasing."""
        data = json.loads(raw) if raw else {}
        recorder = self.recorder
        if what == "configure":
            try:
                self.settings.change(data)
            except (SettingsError, TypeError) as error:
                return _json({"error": str(error)}, status=400)
            self.admission.open()
        elif what == "log":
            return _json({"log": [vars(entry) for entry in recorder.log]})
        elif what == "reset":
            self._reset()
        elif what == "restore":
            await self._restore(data)
        elif what == "release":
            self.admission.release(data.get("count"))
        elif what == "wait":
            try:
                reached = await recorder.wait(data["counts"], data["timeout"])
            except AttributeError as error:
                return _json({"error": f"No such statistic: {error}"}, status=400)
            return _json({"reached": reached, "stats": recorder.snapshot()})
        elif what != "stats":
            return _json({"error": f"No control named {what!r}."}, status=404)
        return _json(recorder.snapshot())

    async def _restore(self, options: Mapping[str, Any]) -> None:
        """Cut off whoever is connected, and be like a new server."""
        for option in fields(Settings):
            setattr(self.settings, option.name, getattr(Settings(), option.name))
        self.settings.change(options)
        for protocol in list(self._connections):
            protocol.force_close()
        # Only then do clients find their pooled connections closed, before they send another request.
        await self.recorder.wait({"in_flight": 0, "connections": 0}, 5.0)
        self._reset()

    def _reset(self) -> None:
        """Start counts, ordinals and everything that depends on them anew."""
        self._replayed.clear()
        self.admission.forget()
        for rule in self.settings.replies:
            rule.used = 0
        for fault in self.settings.faults:
            fault.seen = fault.injected = 0
            fault.failed.clear()
        self.recorder.reset()


def _complaint(body: Mapping[str, Any]) -> str | None:
    """What is wrong with the options of a request, if anything is."""
    for name, most in _MOST.items():
        number = body.get(name)
        if number is not None and (type(number) is not int or not 1 <= number <= most):
            return f"{name} is {number!r:.40}; give a whole number from 1 to {most:,}."
    if isinstance(body.get("input"), list) and len(body["input"]) > _MOST_INPUTS:
        return f"input has {len(body['input']):,} items; give {_MOST_INPUTS:,} at most."
    if not isinstance(options := body.get("stream_options"), Mapping | None):
        return f"stream_options is {options!r}; give an object."
    return None


async def _sleep_until(due: float) -> None:
    """Wait for a moment of the monotonic clock; never early, though loops round their timers."""
    while (rest := due - time.monotonic()) > 0:  # noqa: ASYNC110 - a clock, not a condition
        await asyncio.sleep(max(rest, 0.001))


def _half(payload: bytes) -> bytes:
    """The first part of a body, which no parser takes for a whole."""
    return payload[: len(payload) // 2]


def _json(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    content = openai_bodies.encode(body)
    return web.Response(body=content, status=status, headers=headers, content_type="application/json")


def _failure(kind: str, message: str | None = None, retry_after: float | None = None) -> web.Response:
    """The error reply that OpenAI sends in such a case."""
    status, type_, code, text = STATUS_FAULTS[kind]
    body = {"error": {"message": message or text, "type": type_, "param": None, "code": code}}
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return _json(body, status, headers)


def _reset_connection(transport: asyncio.Transport) -> None:
    """Close a connection so that the client's kernel reports a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
