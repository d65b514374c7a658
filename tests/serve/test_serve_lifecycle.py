"""How a server ends: it drains and loses nothing; a second signal ends it at once. Real processes and sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pilotfish
from support.web import LONG, read_response, rest

PROGRAM = """
import asyncio, os, socket, subprocess, sys, threading, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from pilotfish.serve.lifecycle import Life
from pilotfish.serve.options import ServeOptions

delay, limit, work = map(float, sys.argv[1:4])
ready = True

async def answer(request):
    await request.body()
    await asyncio.sleep(work)
    return PlainTextResponse("answered")

async def is_ready(request):
    return PlainTextResponse("ready", 200 if ready else 503)

def told():
    global ready
    ready = False

sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
child = subprocess.Popen(["sleep", "100"])
threading.Thread(target=time.sleep, args=(100,)).start() if "thread" in sys.argv else None
print(sock.getsockname()[1], child.pid, flush=True)
routes = [Route("/answer", answer, methods=["GET", "POST"]), Route("/ready", is_ready)]
Life(Starlette(routes=routes), ServeOptions(drain_delay=delay, drain_limit=limit), told).run([sock])
child.kill()
print("ended", flush=True)
"""


@contextlib.contextmanager
def program(delay: float, limit: float, work: float, *more: str) -> Iterator[tuple[subprocess.Popen[str], int, int]]:
    """The web layer as a process: it, its port, and the id of its child."""
    paths = str(Path(pilotfish.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(delay), str(limit), str(work), *more],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    try:
        assert process.stdout is not None
        port, child = map(int, process.stdout.readline().split())
        yield process, port, child
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def request(path: str = "/answer") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)


def ask(port: int, path: str) -> int:
    with connect(port) as peer:
        peer.sendall(request(path))
        return read_response(peer)[0]


class Caller(threading.Thread):
    """Asks again and again on one connection, until an answer is the last of it or the server takes no more."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.port, self.answered, self.lost, self.refused = port, 0, 0, False

    def run(self) -> None:
        while not self.refused:
            try:
                peer = connect(self.port)
            except OSError:
                self.refused = True
                return
            with peer:
                is_last = False
                while not is_last:
                    try:
                        peer.sendall(request())
                        status, headers, body = read_response(peer)
                    except OSError:
                        self.lost += 1
                        return
                    assert (status, body) == (200, b"answered")
                    self.answered += 1
                    is_last = headers.get("connection") == "close"
            if is_last:  # a balancer would go elsewhere now
                return


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_that_was_accepted_is_lost_under_load(number: signal.Signals) -> None:
    with program(0.3, 20, 0.01) as (process, port, _):
        callers = [Caller(port) for _ in range(32)]
        for caller in callers:
            caller.start()
        while sum(caller.answered for caller in callers) < 200:
            time.sleep(0.01)
        process.send_signal(number)
        for caller in callers:
            caller.join(LONG)
        assert process.wait(LONG) == 0
        assert sum(caller.lost for caller in callers) == 0
        assert all(caller.answered for caller in callers)
        assert process.stdout is not None
        assert process.stdout.read() == "ended\n"


def test_it_is_not_ready_at_once_and_answers_for_the_delay() -> None:
    with program(0.6, 20, 0) as (process, port, _):
        assert ask(port, "/ready") == 200
        process.send_signal(signal.SIGTERM)
        while ask(port, "/ready") == 200:
            time.sleep(0.01)
        with connect(port) as peer:  # a new connection, whose answer is its last
            peer.sendall(request())
            status, headers, body = read_response(peer)
            assert (status, body, headers["connection"]) == (200, b"answered", "close")
        assert process.poll() is None
        assert process.wait(LONG) == 0
        with pytest.raises(OSError):
            connect(port)


def test_requests_that_are_partly_sent_are_answered_and_idle_connections_closed() -> None:
    with program(0, 20, 0.1) as (process, port, _):
        partly, idle, silent = connect(port), connect(port), connect(port)
        for peer in (partly, idle):
            peer.sendall(request())
            assert read_response(peer)[0] == 200
        partly.sendall(b"POST /answer HTTP/1.1\r\nhost: here\r\ncontent-length: 6\r\n\r\nabc")
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert rest(idle) == b""
        assert rest(silent) == b""
        partly.sendall(b"def")
        status, headers, body = read_response(partly)
        assert (status, body, headers["connection"]) == (200, b"answered", "close")
        assert process.wait(LONG) == 0


def test_the_drain_has_a_limit() -> None:
    with program(0, 0.3, 100) as (process, port, _), connect(port) as peer:
        peer.sendall(request())
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONG) == 0


@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_a_second_signal_ends_everything_at_once(numbers: tuple[signal.Signals, signal.Signals]) -> None:
    with program(100, 100, 100, "thread") as (process, port, child):
        with connect(port) as peer:
            peer.sendall(request())
            time.sleep(0.1)
            process.send_signal(numbers[0])
            while ask(port, "/ready") == 200:
                time.sleep(0.01)
            process.send_signal(numbers[1])
            assert process.wait(LONG) == 128 + numbers[1]
            assert rest(peer) == b""
        with pytest.raises(OSError):
            connect(port)
        assert not Path(f"/proc/{child}").exists() or "Z (zombie)" in Path(f"/proc/{child}/status").read_text()
