"""What is written on a connection beside what uvicorn writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Header = tuple[bytes, bytes]


class Joined:
    """The transport of an answer, whose head goes with the first of its body in one packet."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._holds, self._head = transport, False, b""

    def hold(self) -> None:
        """What is written next goes with what follows it."""
        self._holds = True

    def write(self, data: bytes) -> None:
        if self._holds:
            self._holds, self._head = False, data
        else:
            head, self._head = self._head, b""
            self._transport.write(head + data if head else data)

    def flush(self) -> None:
        """Of an answer without a body."""
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def refusal(status: int, text: str, *headers: Header) -> bytes:
    """The whole response to a request that no application sees, the last of its connection."""
    body = json.dumps({"error": text}).encode()
    lines = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    return STATUS_LINE[status] + header_lines(lines) + b"connection: close\r\n\r\n" + body


def header_lines(headers: Iterable[Header]) -> bytes:
    """Headers as they are sent."""
    return b"".join(b"%s: %s\r\n" % line for line in headers)
