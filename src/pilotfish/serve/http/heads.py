"""Checks the request line and headers, and reads what they state about the body."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

HOST = re.compile(rb"([\w.~!$&'()*+,;=%-]*|\[[0-9A-Fa-f:.%]+\])(:\d{0,5})?")
Fault = tuple[int, str]
"""Status and reason."""


class Head(NamedTuple):
    """fault: why the request is refused; has_body: whether a body may follow; length: its bytes, if stated."""

    fault: Fault | None
    has_body: bool = False
    length: int | None = None


def head_of(url: bytes, headers: Iterable[tuple[bytes, bytes]], most: int) -> Head:
    """Check the part of a request before its body. *headers* have names in lower case and may take *most* bytes in
    total."""
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
        return Head((400, "Transfer-Encoding must be chunked or absent"))
    if codings and lengths:
        return Head((400, "a request must not have both Content-Length and Transfer-Encoding"))
    if len(hosts) > 1 or (hosts and not HOST.fullmatch(hosts[0])):
        return Head((400, "the header Host is invalid or repeated"))
    return Head(None, bool(codings or lengths), int(lengths[0]) if lengths else None)


def too_long(most: int) -> Fault:
    """The fault of a request line and headers of more than *most* bytes."""
    return 431, f"the request line and headers take more than {most} bytes"
