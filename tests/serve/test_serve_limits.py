"""What one request may take: headers, bodies as sent and decompressed, pipelines; and how a refusal ends."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Scope

from pilotfish.serve.http import connection
from pilotfish.serve.http.body import BytesUnderWay, decompress, read_body
from pilotfish.serve.http.connection import PIPELINED
from pilotfish.serve.options import Limits
from pilotfish.serve.refusal import Refusal
from support.web import Web, error_of, gone, listening, read_response, rest, statuses

LIMITS = Limits(body=100_000, decompressed=200_000, header_bytes=4096, in_flight=300_000)
GOOD = b"GET /hello HTTP/1.1\r\nhost: here\r\n\r\n"


async def hello(request: Request) -> Response:
    return PlainTextResponse("hello")


async def count(request: Request) -> Response:
    """How many bytes the body has, and the headers that came."""
    body = await read_body(request, LIMITS)
    return JSONResponse({"n": len(body), "headers": [name for name, _ in request.headers.items()]})


async def slow(request: Request) -> Response:
    await read_body(request, LIMITS)
    await asyncio.sleep(0.1)
    return PlainTextResponse("slow")


HELD: list[Request] = []
RELEASED = threading.Event()


async def hold(request: Request) -> Response:
    """Keeps its body until it is let go."""
    await read_body(request, LIMITS)
    HELD.append(request)
    while not RELEASED.is_set():
        await asyncio.sleep(0.005)
    return PlainTextResponse("held")


async def refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return JSONResponse({"error": str(error)}, error.status, error.headers)


def small_app() -> Starlette:
    def client(scope: Scope) -> str:
        return dict(scope["headers"]).get(b"x", b"").decode()

    posts = {"/count": count, "/slow": slow, "/hold": hold}
    return Starlette(
        routes=[Route("/hello", hello), *(Route(path, route, methods=["POST"]) for path, route in posts.items())],
        middleware=[Middleware(BytesUnderWay, limits=LIMITS, client=client)],
        exception_handlers={Refusal: refused, ClientDisconnect: gone},
    )


@pytest.fixture(scope="module")
def web() -> Iterator[Web]:
    with pytest.MonkeyPatch.context() as patch, listening(small_app(), limits=LIMITS) as found:
        patch.setattr(connection, "LINGER", 0.1)
        yield found
        assert statuses(found.say(GOOD.replace(b"here", b"here\r\nconnection: close"))) == [200]


def post(body: bytes, *headers: bytes, path: bytes = b"/count", close: bool = True) -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"host: here", *headers, *([b"connection: close"] if close else [])]
    if not any(header.lower().startswith((b"content-length", b"transfer-encoding")) for header in headers):
        lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


# Headers.


@pytest.mark.parametrize(
    "head",
    [
        b"GET /hello HTTP/1.1\r\nx: " + b"a" * 5_000_000,  # never ends
        b"GET /" + b"a" * 5_000_000,
        b"GET /hello HTTP/1.1\r\n" + b"x: y\r\n" * 500_000,
        b"GET /hello HTTP/1.1\r\nx: " + b"a" * 4100 + b"\r\n\r\n",  # within one read
        b"GET /hello HTTP/1.1\r\n" + b"x: y\r\n" * 700 + b"\r\n",
        b"GET /hello?" + b"a" * 4100 + b" HTTP/1.1\r\n\r\n",
    ],
    ids=["value", "path", "many", "short value", "short many", "query"],
)
def test_headers_are_bounded(web: Web, head: bytes) -> None:
    answer = web.say(head)
    assert statuses(answer) == [431]
    assert error_of(answer) == "the request line and headers take more than 4096 bytes"
    assert b"connection: close" in answer


@pytest.mark.parametrize("n", [1, 100, 3900])
def test_headers_within_the_limit_pass(web: Web, n: int) -> None:
    assert statuses(web.say(GOOD[:-2] + b"x: " + b"a" * n + b"\r\nconnection: close\r\n\r\n")) == [200]


@pytest.mark.parametrize(
    "headers",
    [
        (b"content-length: 3", b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"content-length: 3"),
        (b"content-length: 3", b"content-length: 4"),
        (b"content-length: 3", b"content-length: 3"),
        (b"content-length: 3, 3",),
        (b"content-length: -3",),
        (b"content-length: +3",),
        (b"content-length: 3x",),
        (b"content-length: 99999999999999999999999",),
        (b"transfer-encoding: gzip, chunked",),
        (b"transfer-encoding: chunked, gzip",),
        (b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding: identity",),
        (b"transfer-encoding : chunked",),
        (b"host: there",),
        (b"content-length: 3\r\n folded: yes",),
        (b"content-length: 3", b"x\0y: z"),
    ],
)
def test_requests_of_two_lengths_are_refused(web: Web, headers: tuple[bytes, ...]) -> None:
    answer = web.say(post(chunked(b"abc"), *headers))
    assert statuses(answer) == [400], answer
    assert error_of(answer)


@pytest.mark.parametrize("host", [b"a b", b"[", b"a/b", b"http://a", b"a@b", b"x:port", b"\xff\xfe"])
def test_hosts_are_hosts(web: Web, host: bytes) -> None:
    answer = web.say(b"GET /nowhere HTTP/1.1\r\nhost: " + host + b"\r\n\r\n")
    assert (statuses(answer), "Host" in error_of(answer)) == ([400], True)


def test_trailers_are_ignored_and_bounded(web: Web) -> None:
    body = chunked(b"abc")[:-2]
    answer = web.say(post(body + b"x-token: forged\r\n\r\n", b"transfer-encoding: chunked"))
    assert statuses(answer) == [200]
    assert b"x-token" not in answer
    assert statuses(web.say(post(body + b"x: " + b"a" * 500_000, b"transfer-encoding: chunked"))) == [400]


UPGRADES = {
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x",
    "java": b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABk\r\nupgrade: h2c",
}


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_other_protocols_are_not_spoken(web: Web, upgrade: str) -> None:
    """The request is answered as any other, with its body and what follows."""
    asked = [UPGRADES[upgrade]]
    answer = web.say(
        GOOD[:-2] + asked[0] + b"\r\n\r\n"
        + post(b"abc", *asked, close=False)
        + post(chunked(b"a" * 20, b"b" * 20_000), b"transfer-encoding: chunked", *asked, close=False)
        + post(b"", *asked, close=False)
        + post(b"abcd")
    )  # fmt: skip
    assert statuses(answer) == [200] * 5
    assert re.findall(rb'"n":(\d+)', answer) == [b"3", b"20020", b"0", b"4"]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_requests_are_read_however_they_are_cut(web: Web, size: int) -> None:
    raw = b"".join(
        (
            post(b"abc", UPGRADES["java"], close=False),
            GOOD,
            post(chunked(b"abcd", b"efg"), b"transfer-encoding: chunked", UPGRADES["java"]),
        )
    )
    with web.connect() as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(raw), size):
            peer.sendall(raw[start : start + size])
            time.sleep(0.0005)
        answer = rest(peer)
    assert statuses(answer) == [200] * 3
    assert re.findall(rb'"n":(\d+)', answer) == [b"3", b"7"]


@pytest.mark.parametrize("junk", [b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0" * 99])
def test_what_is_not_http_is_refused(web: Web, junk: bytes) -> None:
    assert "not HTTP/1.1" in error_of(web.say(junk))


# Bodies.


def test_a_body_within_the_limit_is_read(web: Web) -> None:
    for n in (0, 1, 100_000):
        assert b'"n":%d,' % n in web.say(post(b"a" * n))
        assert b'"n":%d,' % n in web.say(post(chunked(b"a" * n) if n else b"0\r\n\r\n", b"transfer-encoding: chunked"))


@pytest.mark.parametrize("how", ["length", "length alone", "chunks", "endless chunks"])
def test_a_body_over_the_limit_ends_its_connection(web: Web, how: str) -> None:
    """413, and no more is read of what the client goes on sending."""
    start = post(b"", b"content-length: 99999999" if "length" in how else b"transfer-encoding: chunked", close=False)
    part = {"length": b"a" * 65536, "length alone": b"", "chunks": chunked(b"a" * 200_000)}.get(
        how, b"10000\r\n" + b"a" * 65536 + b"\r\n"
    )
    with web.connect() as peer:
        peer.sendall(start + part * 4)
        status, headers, body = read_response(peer)
        assert (status, headers["connection"]) == (413, "close")
        assert b"the limit is 100000 bytes" in body
        with pytest.raises(OSError):  # noqa: PT012 - the server has stopped reading, and closes
            peer.settimeout(20)
            while True:
                peer.sendall(b"a" * 65536)


def test_an_answer_before_the_whole_body_ends_the_connection(web: Web) -> None:
    """Also of a route that does not want one."""
    with web.connect() as peer:
        peer.sendall(b"POST /nowhere HTTP/1.1\r\nhost: here\r\ncontent-length: 90000\r\n\r\n" + b"a" * 1000)
        status, headers, _ = read_response(peer)
        assert (status, headers["connection"]) == (404, "close")
        assert rest(peer) == b""


def test_a_body_over_the_limit_is_not_asked_for(web: Web) -> None:
    head = [b"content-length: 99999999", b"expect: 100-continue"]
    assert statuses(web.say(post(b"", *head, close=False))) == [413]
    head[0] = b"content-length: 3"
    with web.connect() as peer:
        peer.sendall(post(b"", *head))
        assert peer.recv(100).startswith(b"HTTP/1.1 100 ")
        peer.sendall(b"abc")
        assert read_response(peer)[0] == 200


def test_tiny_chunks(web: Web) -> None:
    """A body of them is read while it is small, and refused where framing is most of it."""
    assert b'"n":1000,' in web.say(post(chunked(*[b"a"] * 1000), b"transfer-encoding: chunked"))
    assert b'"n":50000,' in web.say(post(chunked(*[b"a" * 10] * 5000), b"transfer-encoding: chunked"))
    answer = web.say(post(chunked(*[b"a"] * 50_000), b"transfer-encoding: chunked"))
    assert "too many small chunks" in error_of(answer)
    extended = b"1;" + b"x" * 200_000 + b"\r\na\r\n0\r\n\r\n"
    assert statuses(web.say(post(extended, b"transfer-encoding: chunked"))) == [400]


@pytest.mark.parametrize(
    "body", [b"3\r\nab", b"zz\r\nabc\r\n0\r\n\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"3\r\nabcd\r\n0\r\n\r\n"]
)
def test_damaged_chunks_are_refused_or_waited_for(web: Web, body: bytes) -> None:
    with web.connect() as peer:
        peer.sendall(post(body, b"transfer-encoding: chunked"))
        if body == b"3\r\nab":
            peer.sendall(b"c\r\n0\r\n\r\n")
            assert read_response(peer)[0] == 200
        else:
            assert read_response(peer)[0] == 400


# Compression.


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        (b"gzip", gzip.compress),
        (b"x-gzip", gzip.compress),
        (b"GZIP", gzip.compress),
        (b"deflate", zlib.compress),
        (b"deflate", lambda data: zlib.compress(data, wbits=-15)),
        (b"identity", bytes),
    ],
)
def test_compressed_bodies_are_read(web: Web, coding: bytes, pack: object) -> None:
    assert callable(pack)
    for n in (1, 100_000):
        assert b'"n":%d,' % n in web.say(post(pack(b"a" * n), b"content-encoding: " + coding))


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
@pytest.mark.parametrize("n", [200_001, 50_000_000])
def test_bombs_are_refused(web: Web, coding: bytes, pack: object, n: int) -> None:
    assert callable(pack)
    answer = web.say(post(pack(b"\0" * n), b"content-encoding: " + coding))
    assert (statuses(answer), "decompressed body" in error_of(answer)) == ([413], True)


GZIP = gzip.compress(b"abc" * 1000, mtime=0)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"gzip", GZIP[:-5], 400),
        (b"gzip", b"not gzip", 400),
        (b"gzip", GZIP + b"junk", 400),
        (b"gzip", GZIP + GZIP, 400),
        (b"gzip", GZIP[:20] + b"\xff" * 20, 400),
        (b"deflate", GZIP, 400),
        (b"deflate", b"x", 400),
        (b"br", GZIP, 415),
        (b"gzip, gzip", GZIP, 415),
        (b"zstd", GZIP, 415),
        (b"gzip\r\ncontent-encoding: gzip", GZIP, 415),
    ],
)
def test_damaged_compression_is_refused(web: Web, coding: bytes, body: bytes, status: int) -> None:
    answer = web.say(post(body, b"content-encoding: " + coding))
    assert statuses(answer) == [status]
    assert error_of(answer)


def test_decompression_does_not_exceed_its_limit() -> None:
    """Whatever the ratio: memory for what is over the limit is never taken."""
    for n in (9, 10, 11):
        packed = zlib.compress(b"a" * n)
        if n > 10:
            with pytest.raises(Refusal, match="the limit is 10 bytes"):
                decompress(packed, "deflate", 10)
        else:
            assert decompress(packed, "deflate", 10) == b"a" * n


# All requests together.


def test_bytes_under_way_are_bounded(web: Web) -> None:
    """Of one client half of them, of all together all; then 503, and room again once they are answered."""
    body = b"a" * 90_000
    peers = {name: web.connect() for name in (b"one", b"two", b"three", b"four")}
    for name in (b"one", b"two", b"three"):
        peers[name].sendall(post(body, b"x: " + name, path=b"/hold"))
    while len(HELD) < 3:
        time.sleep(0.005)
    assert b"too many bytes are under way" in web.say(post(body, b"x: one"))  # half of 300,000 is less than two
    refusal = web.say(post(body, b"x: four"))
    assert statuses(refusal) == [503]
    assert b"retry-after: " in refusal
    RELEASED.set()
    for name in (b"one", b"two", b"three"):
        assert read_response(peers[name])[0] == 200
    peers[b"four"].sendall(post(body, b"x: four"))
    assert read_response(peers[b"four"])[0] == 200
    for peer in peers.values():
        peer.close()


# Pipelines.


def test_pipelined_requests_are_answered_in_order(web: Web) -> None:
    answer = web.say(GOOD * 3 + post(b"abc", close=False) + GOOD * 2 + post(b"abcd"))
    assert statuses(answer) == [200] * 7
    assert answer.index(b'"n":3') < answer.index(b'"n":4')


@pytest.mark.parametrize("size", [10, 20_000, 99_000])
def test_what_follows_a_body_in_the_same_read_is_bounded(web: Web, size: int) -> None:
    answer = web.say(post(b"x" * size, close=False) + b"GET /hello HTTP/1.1\r\nx: " + b"a" * 300_000)
    assert statuses(answer) in ([200], [200, 431])  # and not 408, after its time
    answer = web.say(post(b"x" * size, close=False) * 3 + post(b"y" * size))
    assert statuses(answer) == [200] * 4
    assert answer.count(b'"n":%d,' % size) == 4


def test_pipelines_are_bounded(web: Web) -> None:
    answer = web.say(GOOD * 5000)
    assert statuses(answer) == [200] * (PIPELINED + 1)
    assert b"connection: close" in answer[answer.rindex(b"HTTP/1.1") :]


@pytest.mark.parametrize(
    "bad",
    [
        b"junk\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"a" * 99_999,
        b"POST /count HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_bad_request_does_not_answer_for_the_one_before(web: Web, bad: bytes) -> None:
    """The first is answered, and says that its answer is the last."""
    answer = web.say(post(b"abc", path=b"/slow", close=False) + bad)
    assert statuses(answer) == [200]
    assert answer.endswith(b"slow")
    assert b"connection: close" in answer


def test_bodies_have_a_deadline_where_connections_are_another_servers() -> None:
    """As where the application is mounted."""

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    with pytest.raises(Refusal, match="not sent within") as found:
        asyncio.run(read_body(Request({"type": "http", "headers": []}, receive), Limits(request_seconds=0.1)))
    assert found.value.status == 408


def test_an_answer_without_a_body_is_sent(web: Web) -> None:
    head = GOOD.replace(b"GET", b"HEAD")
    with web.connect() as peer:
        for _ in range(2):  # nothing is held back until the next one
            peer.sendall(head)
            found = b""
            while b"\r\n\r\n" not in found:
                found += peer.recv(65536)
            assert found.startswith(b"HTTP/1.1 200 ")
            assert found.endswith(b"\r\n\r\n")
        peer.sendall(GOOD)
        assert read_response(peer)[::2] == (200, b"hello")
    assert web.say(head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
