"""First line and headers of a request: what is refused, and what they say of the body."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

HOST = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.%]+\])(:\d{0,5})?")
Fault = tuple[int, str]
"""Status and reason."""


class Head(NamedTuple):
    """fault: why the request is refused; has_body: whether a body may follow; length: its bytes, where that is said."""

    fault: Fault | None
    has_body: bool = False
    length: int | None = None


def head_of(url: bytes, headers: Iterable[tuple[bytes, bytes]], most: int) -> Head:
    """What a request says before its body. *headers* have names in lower case; together they take at most *most*
    bytes."""
    size, codings, hosts, lengths = len(url), [], [], []
    for name, value in headers:
        size += len(name) + len(value) + 4
        if name == b"transfer-encoding":
            codings.append(value.strip().lower())
        elif name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
    if size > most:
        return Head(too_long(most))
    if codings and codings != [b"chunked"]:
        return Head((400, "Transfer-Encoding is chunked or is left out"))
    if codings and lengths:
        return Head((400, "a request has a Content-Length or a Transfer-Encoding, not both"))
    if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])):
        return Head((400, "the header Host is not a host, or stands twice"))
    return Head(None, bool(codings or lengths), int(lengths[0]) if lengths else None)


def too_long(most: int) -> Fault:
    """Of first lines and headers that take more than *most* bytes."""
    return 431, f"first line and headers take more than {most} bytes"
