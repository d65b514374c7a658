"""Clients that leave: while they send, while they are answered, and with requests waiting behind."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotfish.serve.http.body import LEAVING, Leaving, read_body, unless_gone
from pilotfish.serve.options import Limits
from support.web import LONG, Web, gone, listening, read_response

SEEN: Counter[str] = Counter()


async def work(request: Request) -> Response:
    """Takes long, for as long as somebody waits for it."""
    path = request.url.path
    try:
        await read_body(request, Limits())
        SEEN[path + " begun"] += 1
        await unless_gone(request, asyncio.sleep(LONG if "long" in path else 0.02))
    except ClientDisconnect:
        SEEN[path + " gone"] += 1
        raise
    except asyncio.CancelledError:
        SEEN[path + " cancelled"] += 1
        raise
    SEEN[path + " done"] += 1
    return PlainTextResponse("done")


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    routes = [Route("/{name}", work, methods=["POST"])]
    with listening(Starlette(routes=routes, exception_handlers={ClientDisconnect: gone})) as found:
        yield found
        assert until(lambda: len(found.life.peers) == 0)


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not holds() and time.monotonic() < end:
        time.sleep(0.005)
    return holds()


def post(path: str, body: bytes = b"abc") -> bytes:
    return f"POST /{path} HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def leave(peer: socket.socket, how: str) -> None:
    if how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half":
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.close()


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_work_for_a_client_that_leaves_is_given_up(web: Web, how: str) -> None:
    path = f"long-{how}"
    peer = web.connect()
    peer.sendall(post(path))
    assert until(lambda: SEEN[f"/{path} begun"] == 1)
    leave(peer, how)
    assert until(lambda: SEEN[f"/{path} gone"] == 1)
    peer.close()


@pytest.mark.parametrize("body", [b"", b"a" * 10, b"a" * 300_000])
def test_a_client_may_leave_while_it_sends(web: Web, body: bytes) -> None:
    path = f"cut-{len(body)}"
    peer = web.connect()
    peer.sendall(post(path, body + b"rest")[:-4])
    time.sleep(0.02)
    peer.close()
    assert until(lambda: SEEN[f"/{path} gone"] == 1)
    assert SEEN[f"/{path} begun"] == 0


def test_a_client_may_leave_with_requests_behind_the_one_that_is_answered(web: Web) -> None:
    """The one that is answered is given up, those behind never begin."""
    peer = web.connect()
    peer.sendall(post("long-first") + post("second") * 3)
    assert until(lambda: SEEN["/long-first begun"] == 1)
    peer.close()
    assert until(lambda: SEEN["/long-first gone"] == 1)
    time.sleep(0.05)
    assert SEEN["/second begun"] == 0


def test_those_who_stay_are_answered(web: Web) -> None:
    for _ in range(3):
        with web.connect() as peer:
            for _ in range(3):
                peer.sendall(post("short"))
                assert read_response(peer)[::2] == (200, b"done")
    assert SEEN["/short done"] == 9
    assert SEEN["/short gone"] + SEEN["/short cancelled"] == 0


def test_work_that_fails_fails_as_itself() -> None:
    """Whatever its client does meanwhile."""

    async def receive() -> dict[str, object]:
        await asyncio.sleep(LONG)
        return {"type": "http.disconnect"}

    async def fails() -> None:
        await asyncio.sleep(0)
        raise LookupError("as itself")

    async def main() -> None:
        request = Request({"type": "http", "headers": []}, receive)  # type: ignore[arg-type]
        with pytest.raises(LookupError, match="as itself"):
            await unless_gone(request, fails())
        assert len(asyncio.all_tasks()) <= 2
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_a_cancelled_request_cancels_its_work() -> None:
    """As the drain does when its time is over."""
    seen = []

    async def receive() -> dict[str, object]:
        await asyncio.sleep(LONG)
        return {"type": "http.disconnect"}

    async def works() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            seen.append("ended")

    async def main() -> None:
        request = Request({"type": "http", "headers": []}, receive)  # type: ignore[arg-type]
        task = asyncio.create_task(unless_gone(request, works()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["ended"]


@pytest.mark.parametrize("when", ["before", "meanwhile", "at the end"])
def test_a_connection_tells_that_its_client_left(when: str) -> None:
    async def works() -> str:
        await asyncio.sleep(0.01)
        return "done"

    async def main() -> None:
        leaving = Leaving(when == "before")
        request = Request({"type": "http", "headers": [], LEAVING: leaving})
        if when == "meanwhile":
            asyncio.get_running_loop().call_later(0.001, leaving)
        if when != "at the end":
            with pytest.raises(ClientDisconnect):
                await unless_gone(request, works())
        else:
            assert await unless_gone(request, works()) == "done"
            leaving()
            await asyncio.sleep(0)  # the request is answered, and its task goes on
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
