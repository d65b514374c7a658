"""New clients of a busy server wait no longer than old ones."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import pytest

from pilotfish.serve import ServeOptions, Server
from support.server import ALLOWED, LONG
from support.web import Web, read_response

CLIENTS = 48


def test_connections_are_accepted_many_at_a_time(cascade_folder: Path) -> None:
    """By turns of the event loop, which takes them one of a listening socket in each."""
    uvloop = pytest.importorskip("uvloop")
    server = Server({"pair": cascade_folder}, ServeOptions(port=0, allow_python=ALLOWED))
    is_ready, loops, turns = threading.Event(), list[asyncio.AbstractEventLoop](), [0]

    def turn() -> None:
        turns[0] += 1
        time.sleep(0.005)
        loops[0].call_soon(turn)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            loops.append(runner.get_loop())
            runner.run(server.serve(is_ready.set))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert is_ready.wait(LONG)
    web = Web(server.address[1], server._life)  # type: ignore[arg-type]
    try:
        loops[0].call_soon_threadsafe(turn)
        loops[0].call_soon_threadsafe(time.sleep, 0.3)
        with contextlib.ExitStack() as stack:
            before = turns[0]
            peers = [stack.enter_context(web.connect()) for _ in range(CLIENTS)]
            for peer in peers:
                peer.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: here\r\n\r\n")
            assert {read_response(peer)[0] for peer in peers} == {200}
            used = turns[0] - before
    finally:
        loops[0].call_soon_threadsafe(server.stop)
        thread.join(LONG)
    assert not thread.is_alive()
    assert used < CLIENTS
