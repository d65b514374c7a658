"""Sends the messages of an application to the connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilotfish.serve.http.written import whole

if TYPE_CHECKING:
    from uvicorn._types import ASGISendCallable, ASGISendEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from pilotfish.serve.http.connection import BoundedConnection


class Sending:
    """``send`` of one request. A response whose body comes in one piece is written at once; uvicorn writes the others.

    A response sent before the whole body of the request has arrived is the last of its connection.
    """

    __slots__ = ("_connection", "_cycle", "_early", "_head", "_send")

    def __init__(self, connection: BoundedConnection, cycle: RequestResponseCycle, send: ASGISendCallable) -> None:
        self._connection, self._cycle, self._send = connection, cycle, send
        self._early = False
        self._head: Any = None  # waits for the start of the body

    async def __call__(self, message: ASGISendEvent) -> None:
        cycle, connection = self._cycle, self._connection
        said: Any = message
        if said["type"] == "http.response.start":
            self._early = cycle.more_body and not cycle.disconnected
            cycle.keep_alive = cycle.keep_alive and not self._early and not connection.peers.draining
            self._head = said
            return
        ends = said["type"] == "http.response.body" and not said.get("more_body", False)
        head, self._head = self._head, None
        if head is None or not ends or not self._write(head, said.get("body", b"")):
            if head is not None:
                await self._send(head)
            if ends and self._early:
                cycle.keep_alive = True  # uvicorn would close at once, and the client might miss the response
            await self._send(message)
        if ends and self._early:
            connection.end()
        elif ends and connection.transport.is_closing():
            connection.await_reader()

    def _write(self, head: Mapping[str, Any], body: bytes) -> bool:
        """Write a response at once; False if that is not possible."""
        cycle, connection = self._cycle, self._connection
        if connection.flow.write_paused or cycle.disconnected or cycle.response_started:
            return False
        if cycle.scope["method"] == "HEAD":
            return False
        headers = (*cycle.default_headers, *head.get("headers", ()))
        if (data := whole(head["status"], headers, body, cycle.keep_alive)) is None:
            return False
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        connection.transport.write(data)
        if not cycle.keep_alive and not self._early:
            connection.transport.close()
        cycle.on_response()
        return True
