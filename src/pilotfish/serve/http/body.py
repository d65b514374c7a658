"""Reads request bodies within limits, and notices clients that leave."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect

from pilotfish.serve.options import Limits
from pilotfish.serve.refusal import Refusal, busy
from pilotfish.serve.served import GONE

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")

HELD, LEAVING, HEADERS = "pilotfish.held", "pilotfish.leaving", "pilotfish.headers"  # keys in the scope of a request
SHARE = 0.5  # of the bytes under way that one client may hold
PIECE = 64 << 10  # compressed bytes processed at a time
STEP = 1 << 20  # decompressed bytes produced at a time
IN_THREAD = 4 << 10  # compressed bytes from which on a thread decompresses


class BytesUnderWay:
    """ASGI middleware: limits the bytes of requests that have been read but not answered.

    limits  ``in_flight`` is the maximum; one client may have half of it
    client  returns the client from the scope of a request; handlers find it at ``request.state.client``

    Above either limit, :func:`read_body` refuses with 503.
    """

    def __init__(self, app: ASGIApp, limits: Limits, client: Callable[[Scope], str]) -> None:
        self.app, self.most, self.client = app, limits.in_flight, client
        self.total = 0
        self._of_client: dict[str, int] = {}
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client = scope.setdefault("state", {})["client"] = self.client(scope)
        scope[HELD] = held = Held(self, client)
        try:
            await self.app(scope, receive, send)
        finally:
            self.give_back(held)

    def take(self, held: Held, n: int) -> None:
        """Add *n* bytes of one request. Refusal if that is too many."""
        with self._lock:
            mine = self._of_client.get(held.client, 0) + n
            if self.total + n > self.most or mine > self.most * SHARE:
                raise busy("too many bytes are under way; try again later", "full", 1.0)
            self._of_client[held.client] = mine
            self.total += n
            held.n += n

    def give_back(self, held: Held) -> None:
        """Release the bytes of a request that is answered."""
        with self._lock:
            self.total -= held.n
            left = self._of_client.get(held.client, 0) - held.n
            if left:
                self._of_client[held.client] = left
            else:
                self._of_client.pop(held.client, None)
            held.n = 0


class Held:
    """The bytes of one request."""

    __slots__ = ("client", "n", "of")

    def __init__(self, of: BytesUnderWay, client: str) -> None:
        self.of, self.client, self.n = of, client, 0

    def take(self, n: int) -> None:
        self.of.take(self, n)


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request, decompressed if its Content-Encoding is gzip or deflate.

    Refusal: 413 for a body over ``limits.body`` or, once decompressed, over ``limits.decompressed``; 415 for another
    coding; 400 for data that does not match its coding; 408 if it takes longer than ``limits.request_seconds``; 503 if
    too many bytes are under way. ClientDisconnect if the client leaves.
    """
    coding = _coding(header_of(request, b"content-encoding"))
    length = header_of(request, b"content-length")
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > limits.body):
        raise _too_large(f"the body has {length[:20]} bytes", limits.body)
    held: Held | None = request.scope.get(HELD)
    if LEAVING in request.scope:  # our own connections have a deadline themselves
        body = await _all(request, limits, held)
    else:
        try:
            async with asyncio.timeout(limits.request_seconds):
                body = await _all(request, limits, held)
        except TimeoutError:
            raise Refusal(408, f"the body was not sent within {limits.request_seconds:g} s", "slow") from None
    if coding is None or not body:
        return body
    if len(body) < IN_THREAD:
        return decompress(body, coding, limits.decompressed, held)
    return await asyncio.to_thread(decompress, body, coding, limits.decompressed, held)


def header_of(request: Request, name: bytes) -> str:
    """The values of the header *name*, given in lower case; empty if there is none."""
    scope = request.scope
    found: dict[bytes, bytes] | None = scope.get(HEADERS)
    if found is None:
        found = scope[HEADERS] = {}
        for key, value in scope["headers"]:
            found[key] = found[key] + b", " + value if key in found else value
    return found[name].decode("latin-1") if name in found else ""


async def _all(request: Request, limits: Limits, held: Held | None) -> bytes:
    chunks, size = [], 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limits.body:
            raise _too_large("the body is too large", limits.body)
        if chunk:
            if held is not None:
                held.of.take(held, len(chunk))
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _coding(header: str) -> str | None:
    """gzip or deflate; None for a body that is not compressed."""
    found = header.strip().lower()
    if found in ("", "identity"):
        return None
    if found in ("gzip", "x-gzip", "deflate"):
        return found.removeprefix("x-")
    raise Refusal(
        415,
        f"Content-Encoding must be gzip, deflate or absent; found {found[:60]!r}",
        "unsupported",
        {"Accept-Encoding": "gzip, deflate"},
    )


def decompress(body: bytes, coding: str, most: int, held: Held | None = None) -> bytes:
    """Decompress *body* to at most *most* bytes. Refusal with 413 or 400."""
    # deflate means zlib's format; some clients send the bare stream
    stream = zlib.decompressobj(31 if coding == "gzip" else 15 if _has_zlib_header(body) else -15)
    parts, size = [], 0
    try:
        for start in range(0, len(body), PIECE):
            data = body[start : start + PIECE]
            while data and not stream.eof:
                part = stream.decompress(data, STEP)
                data = stream.unconsumed_tail
                size += len(part)
                if size > most:
                    raise _too_large("the decompressed body is too large", most)
                if held is not None:
                    held.take(len(part))
                parts.append(part)
            if stream.unused_data or (stream.eof and start + PIECE < len(body)):
                raise _not_coded(coding, "data follows its end")
    except zlib.error as error:
        raise _not_coded(coding, str(error).removeprefix("Error ")) from None
    if not stream.eof:
        raise _not_coded(coding, "it is cut short")
    return b"".join(parts)


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _not_coded(coding: str, why: str) -> Refusal:
    return Refusal(400, f"the body is not valid {coding}, which its Content-Encoding states: {why}", "bad_request")


def _too_large(found: str, most: int) -> Refusal:
    return Refusal(413, f"{found}; the limit is {most} bytes", "too_large", {"Connection": "close"})


async def until_gone(request: Request) -> None:
    """Wait until the client of a request leaves. For requests whose body has been read; at most one response may be
    sent meanwhile."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Leaving:
    """Whether the client of a request has left, as told by the connection. then: called when it does."""

    __slots__ = ("happened", "then")

    def __init__(self, happened: bool) -> None:
        self.happened = happened
        self.then: Callable[[], object] | None = None

    def waits(self, then: Callable[[], object]) -> bool:
        """Whether the client still waits; *then* is called when it leaves."""
        self.then = then
        return not self.happened

    def __call__(self) -> None:
        self.happened = True
        if self.then is not None:
            self.then()


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of *work*. If the client leaves, it is cancelled and ClientDisconnect is raised."""
    leaving: Leaving | None = request.scope.get(LEAVING)
    task = asyncio.current_task()
    if leaving is None or task is None:
        return await _unless_told(request, work)
    if not leaving.waits(partial(task.cancel, GONE)):
        work.close()
        raise ClientDisconnect
    try:
        return await work
    except asyncio.CancelledError:
        if leaving.happened and not task.uncancel():
            raise ClientDisconnect from None
        raise
    finally:
        leaving.then = None


async def _unless_told(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The same behind another server, where only ``receive`` tells: one more task per request."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(until_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel(GONE)
        raise ClientDisconnect
    finally:
        gone.cancel()
        task.cancel()
