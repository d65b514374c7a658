"""Responses that are written without uvicorn."""

from __future__ import annotations

import json
from collections.abc import Iterable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Header = tuple[bytes, bytes]
CONTROLS = bytes({*range(32), 127} - {9})  # not allowed in a header


def whole(status: int, headers: Iterable[Header], body: bytes, keep_alive: bool) -> bytes | None:
    """A complete response with its *body*. None if uvicorn is to write it: if it states no length or may have no body,
    or a header is invalid or concerns the connection."""
    lines, length = [STATUS_LINE[status]], b""
    for name, value in headers:
        name = name.lower()
        if name == b"content-length":
            length = value
        elif name in (b"connection", b"transfer-encoding"):
            return None
        lines += (name, b": ", value, b"\r\n")
    if not length.isdigit() or int(length) != len(body) or status < 200 or status in (204, 304):
        return None
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    head = b"".join(lines)
    ends = 2 * (len(lines) // 4 + (2 if keep_alive else 3))  # two end each line; a header has four parts
    return head + body if len(head) - len(head.translate(None, CONTROLS)) == ends else None


def refusal(status: int, text: str, *headers: Header) -> bytes:
    """The complete response to a request that no application sees, the last of its connection."""
    body = json.dumps({"error": text}).encode()
    lines = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    return STATUS_LINE[status] + header_lines(lines) + b"connection: close\r\n\r\n" + body


def header_lines(headers: Iterable[Header]) -> bytes:
    """Headers as sent."""
    return b"".join(b"%s: %s\r\n" % line for line in headers)
