"""Gives every request an id, and a line in the access log if that is enabled."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pilotfish.serve.report.logs import Log

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST = 128  # characters of an id at most
SAFE = re.compile(rb"[!-~]{1,%d}" % LONGEST)  # printable, without spaces
TRACE = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]{0,200})?")
TOLD = b"pilotfish-"  # response headers that are repeated in the log
Headers = Iterable[tuple[bytes, bytes]]


def ids_of(headers: Headers) -> tuple[str, str | None]:
    """(id of a request, its ``traceparent``). The id is the header ``x-request-id`` if it is printable, without spaces
    and not too long, else a new one; ``traceparent`` is None if it is invalid by W3C. Repeated headers are ignored."""
    given: bytes | None = None
    trace: bytes | None = None
    for name, value in headers:
        if name == b"x-request-id":
            given = value if given is None else b""
        elif name == b"traceparent":
            trace = value if trace is None else b""
    found = given.decode() if given and SAFE.fullmatch(given) else f"{random.getrandbits(128):032x}"
    return found, trace.decode() if trace and TRACE.fullmatch(trace) else None


class RequestIds:
    """ASGI middleware. Handlers find the id at ``request.state.request_id``; responses carry ``x-request-id``, and
    the ``traceparent`` of the request. Exceptions that nobody catches are logged and answered with 500.

    failed  called for each of these exceptions
    """

    def __init__(self, app: ASGIApp, log: Log, failed: Callable[[], None] = lambda: None) -> None:
        self.app, self.log, self.failed = app, log, failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        mine, trace = ids_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = mine
        own = [(b"x-request-id", mine.encode())]
        if trace is not None:
            own.append((b"traceparent", trace.encode()))
        status, told = 0, {}

        async def sending(message: Message) -> None:
            nonlocal status, told
            if message["type"] == "http.response.start":
                status, headers = message["status"], message.get("headers", ())
                if self.log.access:
                    told = {_word(name): value.decode("latin-1") for name, value in headers if name.startswith(TOLD)}
                message["headers"] = [*headers, *own]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            what = f"{scope['method']} {_path(scope)}"
            self.failed()
            self.log.error(f"{what} failed: this is a bug", error, request=mine, trace=trace)
            if not status:
                await _send_internal(sending)
        finally:
            if self.log.access:
                seconds = round(time.perf_counter() - began, 6)
                self._tell(scope, status, seconds, {"request": mine, "trace": trace, **told})

    def _tell(self, scope: Scope, status: int, seconds: float, fields: dict[str, Any]) -> None:
        client = scope["state"].get("client") or (scope.get("client") or ("",))[0]
        what, model = f"{scope['method']} {_path(scope)}", scope["state"].get("model")
        said = f"{what} {status}" if status else f"{what} without a response"
        self.log("request", said, model=model, **fields, client=client or None, status=status or None, seconds=seconds)


async def _send_internal(send: Send) -> None:
    body = b'{"error": "internal error; the server\'s log has it by this request\'s id"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _word(name: bytes) -> str:
    return name[len(TOLD) :].decode("latin-1").replace("-", "_")


def _path(scope: Scope) -> str:
    """The path without its query string, which may hold secrets."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    return raw[:200].decode("latin-1")
