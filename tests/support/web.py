"""The web layer alone, in front of a small application: real sockets, and requests byte by byte."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from pilotfish.serve.lifecycle import Life
from pilotfish.serve.options import ServeOptions

LONG = 60  # seconds: what takes longer has failed


async def gone(request: Request, error: Exception) -> Response:
    """What nobody reads: handles ClientDisconnect."""
    return Response(status_code=499)


@dataclass
class Web:
    """A server that runs in a thread. life: uvicorn's server."""

    port: int
    life: Life

    def connect(self, peer: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=LONG, source_address=(peer, 0))

    def say(self, data: bytes) -> bytes:
        """What comes back on a connection of its own until it is closed."""
        with self.connect() as peer:
            with contextlib.suppress(OSError):
                peer.sendall(data)
            return rest(peer)


def rest(peer: socket.socket) -> bytes:
    """All that still comes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := peer.recv(65536):
            found += part
    return found


def read_response(peer: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """One response with a Content-Length: status, headers in lower case and body."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = peer.recv(65536)
        if not part:
            raise ConnectionError(f"closed after {found!r}")
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    while len(body) < int(headers.get("content-length", 0)):
        part = peer.recv(65536)
        if not part:
            raise ConnectionError(f"closed within {found!r}")
        body += part
    return int(lines[0].split()[1]), headers, body


def statuses(answer: bytes) -> list[int]:
    """Of all responses in *answer*, whose bodies are JSON or short texts without a line end."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def error_of(answer: bytes) -> str:
    """What the one response in *answer* says in its ``error``."""
    assert len(statuses(answer)) == 1, answer
    found: Any = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert list(found) == ["error"]
    return str(found["error"])


@contextlib.contextmanager
def listening(app: Starlette, **options: Any) -> Iterator[Web]:
    """The application on a port of its own. options: of ``ServeOptions``."""
    life = Life(app, ServeOptions(**options), lambda: None)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=life.run, args=([listener],), name="web", daemon=True)
        thread.start()
        try:
            yield Web(port, life)
        finally:
            life.drain()
            thread.join(LONG)
            assert not thread.is_alive(), "the server did not end"


class Caller(threading.Thread):
    """Asks the same again and again, on one connection as long as it is kept. It ends when an answer is the last of its
    connection, as a balancer would go elsewhere then, or the server takes no more.

    answered, lost  requests; lost: their connection was there, and no answer came
    """

    def __init__(self, port: int, request: bytes) -> None:
        super().__init__(daemon=True)
        self.port, self.request, self.answered, self.lost = port, request, 0, 0

    def run(self) -> None:
        try:
            peer = socket.create_connection(("127.0.0.1", self.port), timeout=LONG)
        except OSError:
            return
        with peer:
            while True:
                try:
                    peer.sendall(self.request)
                    status, headers, _ = read_response(peer)
                except OSError:
                    self.lost += 1
                    return
                self.answered += status == 200
                self.lost += status != 200
                if headers.get("connection") == "close":
                    return


def called(port: int, request: bytes, callers: int, enough: int) -> list[Caller]:
    """That many callers, once they have *enough* answers together."""
    found = [Caller(port, request) for _ in range(callers)]
    for caller in found:
        caller.start()
    while sum(caller.answered for caller in found) < enough:
        time.sleep(0.005)
    return found


def ended(callers: list[Caller]) -> tuple[int, int]:
    """(requests answered, requests lost) of callers, once all have ended."""
    for caller in callers:
        caller.join(LONG)
    return sum(caller.answered for caller in callers), sum(caller.lost for caller in callers)
