"""Limits on one connection. uvicorn limits neither the time a client takes nor its headers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from pilotfish.serve.http.body import LEAVING, Leaving
from pilotfish.serve.http.deadline import Deadline
from pilotfish.serve.http.heads import head_of, too_long
from pilotfish.serve.http.peers import Peers, peer_name
from pilotfish.serve.http.sending import Sending
from pilotfish.serve.http.written import header_lines, refusal
from pilotfish.serve.options import Limits

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable

PIECE = 16 << 10  # bytes parsed at a time, so that limits are noticed early
HELD = 64 << 10  # bytes of a body that wait for the application; the allocator keeps larger pieces for long
PIPELINED = 16  # requests that may wait on a connection for an earlier one
LINGER = 1.0  # seconds for a client that still sends to read why it was refused


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's protocol with a deadline for every request, and limits.

    - A request must be sent within ``limits.request_seconds`` of its first byte (for the first request, of the
      connection's opening), and its response read within the same time. Otherwise 408, or the connection is closed.
    - The request line and headers may take ``limits.header_bytes``; otherwise 431. Trailers and chunk framing count as
      headers; trailers are ignored.
    - ``Transfer-Encoding`` must be ``chunked`` and not accompany a Content-Length.
    - A response sent before the whole body has arrived is the last of its connection, and the rest is not read.
    - A request that cannot be parsed is refused once the earlier ones on the connection are answered.
    - No other protocol is spoken: the header Upgrade is ignored and the body is read, as Java's client needs.
    """

    def __init__(self, *args: Any, limits: Limits, peers: Peers, **options: Any) -> None:
        super().__init__(*args, **options)
        self.limits, self.peers, self.peer = limits, peers, ""
        self.counted = False
        self._due = Deadline(self.loop, self._late)  # for the client to send a request
        self._idle = False  # the next byte starts a request
        self._flush: asyncio.TimerHandle | None = None  # for the client to read a response
        self._running: RequestResponseCycle | None = None  # the request being answered
        self._over: tuple[int, str] | None = None  # why a parser callback refuses the request
        self._done = False  # nothing more is read
        self._last = False  # the current request is the last
        self._resumes = self._resumed = False  # the body of a request with Upgrade is due, or being set up
        self._in_message = self._in_body = False
        self._framing = self._body = 0  # bytes of the current request
        self._length = 0  # of its body, if its headers state it

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = peer_name(self.client[0]) if self.client else ""
        self.counted = self.peers.enter(self)
        if self.counted:
            self._await_request()
        else:
            self._done = True
            self.peers.refused(503)
            transport.write(refusal(503, "too many connections are open", (b"retry-after", b"1")))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.counted:
            self.peers.leave(self)
        self._due.close()
        if self._flush is not None:
            self._flush.cancel()
        waiting = [cycle for cycle, _ in self.pipeline]
        self.pipeline.clear()
        super().connection_lost(exc)
        for cycle in [*waiting, self._running]:
            if cycle is not None:
                _leave(cycle)

    def make_room(self) -> None:
        """Close; no request is being answered."""
        self.peers.leave(self)
        self.counted = False
        if self._in_message and not self._done:
            self._refuse(408, "too many connections are open, and this one is slow")
        self._done = True
        self.transport.close()
        self.await_reader(LINGER)

    def shutdown(self) -> None:
        """Take no requests after the current one. An idle client may be sending one right now."""
        self._last = True
        if self._is_working():
            super().shutdown()
        elif not self._in_message:
            self.loop.call_later(LINGER / 4, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if not self._is_working() and not self._in_message:
            self.transport.close()

    def _is_working(self) -> bool:
        return self._running is not None and not self._running.response_complete

    # Time.

    def _await_request(self) -> None:
        if self._idle or not self._due.is_set:
            self._idle = False
            self._due.set(self.limits.request_seconds)

    def _late(self) -> None:
        if self.flow.read_paused and not self._done:  # the server has not been reading
            self._await_request()
        elif self._in_message:
            self._refuse(408, f"the request was not sent within {self.limits.request_seconds:g} s")
        else:
            self.transport.close()
            self.await_reader()

    def await_reader(self, seconds: float | None = None) -> None:
        if self._flush is None:
            self._flush = self.loop.call_later(seconds or self.limits.request_seconds, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.await_reader()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._flush is not None and not self._done and not self.transport.is_closing():
            self._flush.cancel()
            self._flush = None

    # What is read.

    def data_received(self, data: bytes) -> None:
        start, end = 0, len(data)
        while start < end:
            if self._done or self.transport.is_closing():
                self.flow.pause_reading()
                return
            size = max(PIECE, min(HELD, self._length - self._body) if self._in_body else 0)
            self._feed(data if not start and end <= size else memoryview(data)[start : start + size])
            start += size
        if self._idle:  # only blank lines so far
            self._await_request()
        if self._in_body and len(self.cycle.body) > HELD:
            self.flow.pause_reading()

    def _feed(self, piece: bytes | memoryview) -> None:
        self._framing += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as found:
            self._framing -= len(piece)
            self._ignore_upgrade(piece[found.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._refuse(*(self._over or (400, f"the request is not HTTP/1.1 ({str(error)[:80]})")))
            return
        if self._in_message and self._framing > self.limits.header_bytes + self._body:
            self._refuse(*self._too_long())

    def _ignore_upgrade(self, rest: bytes | memoryview) -> None:
        """Continue in HTTP/1.1. The parser assumes another protocol after the headers, so a new parser is given them
        again."""
        if self._resumes:
            self.parser = httptools.HttpRequestParser(self)
            lengths = [line for line in self.headers if line[0] in (b"content-length", b"transfer-encoding")]
            self._resumes, self._resumed = False, True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + header_lines(lengths) + b"\r\n")
            self._resumed = False
        if rest:
            self._feed(rest)

    def _too_long(self) -> tuple[int, str]:
        if self._in_body:
            return 400, "the body has too many small chunks; send larger ones, or a Content-Length"
        return too_long(self.limits.header_bytes)

    def on_message_begin(self) -> None:
        if self._resumed:
            return
        super().on_message_begin()
        self._in_message, self._in_body = True, False
        self._framing = self._body = self._length = 0
        self._await_request()

    def on_url(self, url: bytes) -> None:
        if not self._resumed:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer: ignored
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._resumed:
            return
        head = head_of(self.url, self.headers, self.limits.header_bytes)
        self._over, self._length = head.fault, head.length or 0
        if self._over is None and len(self.pipeline) >= PIPELINED:
            self._over = 503, f"more than {PIPELINED} requests wait on one connection"
        if self._over is not None:
            raise ValueError(self._over[1])
        super().on_headers_complete()
        self._in_body = True
        self._framing = 0
        if self._last or self.peers.draining:
            self.cycle.keep_alive = False
        self._resumes = head.has_body and self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        cycle, size = self.cycle, len(body)
        self._framing -= size
        self._body += size
        if not cycle.response_complete:
            cycle.body += body
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._resumes:
            return
        self._in_message = self._in_body = False
        self._due.clear()
        self.peers.works(self)
        super().on_message_complete()

    # What is answered.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, partial(self._answer, cycle, app))

    def _answer(
        self, cycle: RequestResponseCycle, app: Any, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> Awaitable[None]:
        """Call *app* for a request. Not a coroutine: every step would pass through it."""
        scope[LEAVING] = Leaving(cycle.disconnected)
        answering: Awaitable[None] = app(scope, receive, Sending(self, cycle, send))
        return answering

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            elif not self._in_message:
                self._idle = True
                self._due.set(self.timeout_keep_alive)
        if self.counted and not self._is_working():
            self.peers.waits(self)

    def _refuse(self, status: int, text: str) -> None:
        """Refuse the request being read, unless another response is being sent, and stop reading."""
        self._done, broken = True, self.cycle if self._in_body else None
        self._due.clear()
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
        before = self.pipeline[0][0] if self.pipeline else self._running
        if before is not None and before is not broken and not before.response_complete:
            before.keep_alive = False
            self.flow.pause_reading()
            return
        said = broken is not None and broken.response_started
        if broken is not None:
            _leave(broken)
        if said:
            self.transport.abort()
        else:
            self.peers.refused(status)
            self.transport.write(refusal(status, text))
            self.end()

    def end(self) -> None:
        """The last response was sent. A client that is still sending has a moment to read it."""
        self._done = True
        self._due.clear()
        self.flow.pause_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        self.await_reader(LINGER)


def bounded(limits: Limits, peers: Peers) -> Callable[..., BoundedConnection]:
    """For ``uvicorn.Config(http=…)``."""
    return partial(BoundedConnection, limits=limits, peers=peers)


def _leave(cycle: RequestResponseCycle) -> None:
    """Tell the application that its client has left."""
    if not cycle.response_complete:
        cycle.disconnected = True
    cycle.message_event.set()
    leaving = cast("dict[str, Any]", cycle.scope).get(LEAVING)
    if leaving is not None:
        leaving()
