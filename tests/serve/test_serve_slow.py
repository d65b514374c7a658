"""Clients that take their time: slow headers and bodies, idle connections, too many of them, and slow readers."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from pilotfish.serve.http import connection
from pilotfish.serve.http.body import read_body
from pilotfish.serve.http.peers import YOUNG, Peers, peer_name
from pilotfish.serve.options import Limits
from support.web import LONG, Web, error_of, gone, listening, read_response, rest, statuses

SOON = 0.4  # seconds that a client has for its request
LIMITS = Limits(request_seconds=SOON, connections=50)
GOOD = b"GET /hello HTTP/1.1\r\nhost: here\r\n\r\n"


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def length(request: Request) -> Response:
    return PlainTextResponse(str(len(await read_body(request, LIMITS))))


async def much(request: Request) -> Response:
    return PlainTextResponse(b"a" * 50_000_000)


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    routes = [Route("/hello", hello), Route("/length", length, methods=["POST"]), Route("/much", much)]
    app = Starlette(routes=routes, exception_handlers={ClientDisconnect: gone})
    with pytest.MonkeyPatch.context() as patch, listening(app, limits=LIMITS) as found:
        patch.setattr(connection, "LINGER", 0.1)
        yield found
        assert until(lambda: len(found.life.peers) == 0)


def until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + LONG
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def drip(peers: Mapping[str, socket.socket], parts: Mapping[str, bytes]) -> None:
    """Send a byte at a time to each, until the server reads none of them any more."""
    left, sent = dict(peers), 0
    while left:
        for name, peer in list(left.items()):
            try:
                peer.sendall(parts[name][sent % len(parts[name]) :][:1])
            except OSError:
                del left[name]
        sent += 1
        time.sleep(0.02)


CHUNKED = b"POST /length HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n"
SLOW = {
    "headers": (b"GET /hello HTTP/1.1\r\n", b"x: y\r\n"),
    "one header": (b"GET /hello HTTP/1.1\r\nx: ", b"y"),
    "path": (b"GET /", b"a"),
    "body": (b"POST /length HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n", b"a"),
    "chunks": (CHUNKED, b"1\r\na\r\n"),
    "a chunk's length": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"0\r\n", b"x: y\r\n"),
    "the body of an unknown path": (b"POST /nowhere HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n", b"a"),
}


def test_a_request_has_a_deadline_as_a_whole(web: Web) -> None:
    """However regularly its bytes come."""
    peers = {how: web.connect() for how in SLOW}
    for how, peer in peers.items():
        peer.sendall(SLOW[how][0])
    dripping = threading.Thread(target=drip, args=(peers, {how: then for how, (_, then) in SLOW.items()}), daemon=True)
    dripping.start()
    for how, peer in peers.items():
        answer = rest(peer)
        if "unknown" in how:
            assert statuses(answer) == [404], how
        else:
            assert statuses(answer) == [408], how
            assert "was not sent within 0.4 s" in error_of(answer)
        assert b"connection: close" in answer
    dripping.join(LONG)
    for peer in peers.values():
        peer.close()


def test_connections_on_which_no_request_begins_are_closed(web: Web) -> None:
    """Blank lines are none. A connection that has had a request before may be idle for longer."""
    fresh, used = [web.connect() for _ in range(3)], [web.connect() for _ in range(3)]
    for peer in used:
        peer.sendall(GOOD)
        assert read_response(peer)[0] == 200
    for peer, blank in zip([*fresh, *used], [b"", b"\r\n", b"\r\n\r\n\r\n"] * 2, strict=True):
        peer.sendall(blank)
    for peer in [*fresh, *used[1:]]:
        assert rest(peer) == b""
        peer.close()
    time.sleep(SOON / 2)
    used[0].sendall(GOOD)
    assert read_response(used[0])[0] == 200
    used[0].close()


def test_the_deadline_begins_with_the_request(web: Web) -> None:
    """Not with its connection, which may be kept for long."""
    with web.connect() as peer:
        for _ in range(3):
            peer.sendall(GOOD[:9])
            time.sleep(SOON / 2)
            peer.sendall(GOOD[9:])
            assert read_response(peer)[0] == 200


def test_slow_readers_are_let_go(web: Web) -> None:
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.settimeout(LONG)
        peer.connect(("127.0.0.1", web.port))
        peer.sendall(b"GET /much HTTP/1.1\r\nhost: here\r\n\r\n")
        assert until(lambda: len(web.life.peers) == 1)
        assert until(lambda: len(web.life.peers) == 0)
        assert len(rest(peer)) < 50_000_000


def test_others_are_served_beside_a_thousand_slow_connections(web: Web) -> None:
    """At any time those of other peers, and of the same one whoever comes after them: the connection that has waited
    longest makes room."""
    held = []
    for i in range(1000):
        peer = web.connect()
        peer.sendall(b"POST /length HTTP/1.1\r\ncontent-length: 9\r\n\r\n" if i % 2 else b"GET /hello HTTP/1.1\r\nx: ")
        held.append(peer)
        if i % 100 == 99:
            with web.connect("127.0.0.2") as good:
                good.sendall(GOOD)
                assert read_response(good)[0] == 200
    assert len(web.life.peers) <= 50 + 10
    time.sleep(0.15)
    with web.connect() as good:
        good.sendall(GOOD)
        assert read_response(good)[0] == 200
    for peer in held:
        peer.close()


def test_a_burst_is_turned_away_with_a_reason(web: Web) -> None:
    """Of a hundred connections at once those beyond the limit are told; the others are served."""
    peers = [web.connect() for _ in range(100)]
    answers = []
    for peer in peers:
        with contextlib.suppress(OSError):
            peer.sendall(GOOD)
    for peer in peers:
        with contextlib.suppress(OSError):
            answers.append(read_response(peer)[0])
        peer.close()
    assert answers.count(200) >= 50
    assert set(answers) <= {200, 503}


class Client:
    """A connection as Peers sees one."""

    def __init__(self, peer: str, peers: Peers) -> None:
        self.peer, self.peers, self.closed = peer, peers, False

    def make_room(self) -> None:
        self.closed = True
        self.peers.leave(self)


def entered(peers: Peers, *names: str) -> list[Client]:
    found = [Client(name, peers) for name in names]
    assert all(peers.enter(client) for client in found)
    return found


def peers_of(each: int, total: int) -> Peers:
    """Whose clock goes on by a second with every look at it."""
    return Peers(each, total, clock=itertools.count().__next__)


def test_the_longest_waiting_connection_of_a_peer_makes_room() -> None:
    peers = peers_of(2, 100)
    a, b, other = entered(peers, "a", "a", "b")
    peers.works(a)
    peers.waits(a)  # it was answered, and waits since
    entered(peers, "a")
    assert (a.closed, b.closed, other.closed) == (False, True, False)
    peers.works(a)
    [last] = entered(peers, "a")
    peers.works(last)
    assert not peers.enter(Client("a", peers))  # both are being answered
    entered(peers, "b")
    assert len(peers) == 4


def test_of_all_connections_the_peer_with_most_makes_room() -> None:
    peers = peers_of(90, 4)
    first, *_ = entered(peers, "many", "one", "many", "many")
    entered(peers, "new")
    assert first.closed
    assert len(peers) == 4


def test_a_connection_that_came_just_now_makes_no_room() -> None:
    """Its request may be on its way."""
    now = [0.0]
    peers = Peers(2, 100, clock=lambda: now[0])
    held = entered(peers, "a", "a")
    now[0] = YOUNG / 2
    assert not peers.enter(Client("a", peers))
    now[0] = YOUNG
    entered(peers, "a")
    assert [client.closed for client in held] == [True, False]


def test_nothing_is_kept_of_peers_that_left() -> None:
    peers = Peers(3, 10)
    for i in range(100):
        [client] = entered(peers, f"peer {i}")
        peers.works(client)
        peers.leave(client)
    assert (len(peers), peers._open, peers._waiting) == (0, {}, {})


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("::1", "::1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
        ("", ""),
    ],
)
def test_a_peer_is_an_address_or_a_network(address: str, name: str) -> None:
    assert peer_name(address) == name
