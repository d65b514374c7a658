"""Responses are written in one piece, to the byte as uvicorn writes them in two; and the deadline of a connection."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from pilotfish.serve.http.deadline import LATE, Deadline
from pilotfish.serve.http.written import whole
from pilotfish.serve.lifecycle import Life
from pilotfish.serve.options import ServeOptions


class Sink:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


def by_uvicorn(status: int, headers: list[tuple[bytes, bytes]], body: bytes, keep_alive: bool) -> bytes | None:
    """What uvicorn writes; None where it refuses the response."""
    sink: Any = Sink()

    async def send() -> None:
        log = logging.getLogger("unused")
        cycle = RequestResponseCycle(
            {"type": "http", "method": "GET"},  # type: ignore[arg-type, typeddict-item]
            sink, FlowControl(sink), log, log, False, [], asyncio.Event(), False, keep_alive, lambda: None,
        )  # fmt: skip
        await cycle.send({"type": "http.response.start", "status": status, "headers": headers})
        await cycle.send({"type": "http.response.body", "body": body, "more_body": False})

    try:
        asyncio.run(send())
    except RuntimeError:
        return None
    return bytes(sink.written)


NAMES = st.sampled_from([b"content-type", b"x-request-id", b"Pilotfish-Stages", b"vary", b"connection", b"date"])
VALUES = st.one_of(
    st.sampled_from(
        [b"close", b"application/json", b"", b"two\r\nlines", b"line\nend", b"cr\rhere", b"nul\0", b"t\tab"]
    ),
    st.binary(max_size=8),
)


@given(
    st.sampled_from([200, 204, 304, 400, 413, 500, 503]),
    st.lists(st.tuples(NAMES, VALUES), max_size=5),
    st.binary(max_size=40),
    st.booleans(),
    st.sampled_from([0, 0, 0, 1, -1, None]),
)
def test_a_whole_response_is_what_uvicorn_writes(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, keep_alive: bool, off: int | None
) -> None:
    if off is not None:
        headers = [*headers, (b"content-length", b"%d" % (len(body) + off))]
    found = whole(status, headers, body, keep_alive)
    if found is not None:
        assert found == by_uvicorn(status, headers, body, keep_alive)


@pytest.mark.parametrize("keep_alive", [True, False])
@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 100_000])
def test_plain_responses_are_written_whole(body: bytes, keep_alive: bool) -> None:
    headers = [(b"Content-Type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"vary", b"")]
    assert whole(200, headers, body, keep_alive) == by_uvicorn(200, headers, body, keep_alive) is not None


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"3")],
        [(b"content-length", b"x")],
        [(b"content-length", b"2"), (b"x", b"a\r\nset-cookie: b")],
        [(b"content-length", b"2"), (b"x", b"a\nb")],
        [(b"content-length", b"2"), (b"x\r\ny", b"a")],
        [(b"content-length", b"2"), (b"Connection", b"close")],
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
    ],
)
def test_what_is_not_plain_is_uvicorns(headers: list[tuple[bytes, bytes]]) -> None:
    assert whole(200, headers, b"{}", True) is None


class Clock:
    """An event loop that has timers alone, and the time that the test says."""

    def __init__(self) -> None:
        self.now, self.timers, self.made = 0.0, list[Any](), 0

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, then: Callable[[], None]) -> Any:
        timer = asyncio.TimerHandle(at, then, (), self)  # type: ignore[arg-type]
        self.timers.append(timer)
        self.made += 1
        return timer

    def get_debug(self) -> bool:
        return False

    def _timer_handle_cancelled(self, timer: Any) -> None:
        self.timers.remove(timer)

    def pass_to(self, now: float) -> None:
        while due := [timer for timer in self.timers if timer.when() <= now]:
            first = min(due, key=lambda timer: timer.when())
            self.now = max(self.now, first.when())
            self.timers.remove(first)
            first._run()
        self.now = now


def test_a_deadline_is_reached_once_and_a_moment_late() -> None:
    clock, reached = Clock(), list[float]()
    due = Deadline(clock, lambda: reached.append(clock.now))  # type: ignore[arg-type]
    due.set(2.0)
    clock.pass_to(2.0 + LATE / 2)
    assert not reached
    clock.pass_to(100.0)
    assert reached == [2.0 + LATE]
    assert not due.is_set


@pytest.mark.parametrize("how", ["later", "sooner", "cleared", "closed"])
def test_only_the_last_deadline_counts(how: str) -> None:
    clock, reached = Clock(), list[float]()
    due = Deadline(clock, lambda: reached.append(clock.now))  # type: ignore[arg-type]
    due.set(2.0)
    clock.pass_to(1.0)
    {"later": lambda: due.set(5.0), "sooner": lambda: due.set(0.5), "cleared": due.clear, "closed": due.close}[how]()
    clock.pass_to(50.0)
    assert reached == {"later": [6.0 + LATE], "sooner": [1.5 + LATE]}.get(how, [])
    assert not clock.timers


def test_what_comes_in_the_moment_after_it_is_in_time() -> None:
    clock, reached = Clock(), list[float]()
    due = Deadline(clock, lambda: reached.append(clock.now))  # type: ignore[arg-type]
    due.set(2.0)
    clock.pass_to(2.0 + LATE / 2)
    due.set(3.0)
    clock.pass_to(4.0)
    assert not reached
    clock.pass_to(9.0)
    assert reached == [5.0 + LATE / 2 + LATE]


def test_a_busy_connection_makes_few_timers() -> None:
    clock = Clock()
    due = Deadline(clock, lambda: None)  # type: ignore[arg-type]
    for request in range(6000):  # a minute
        clock.pass_to(request / 100)
        due.set(30.0)
        due.clear()
        due.set(75.0)
    assert clock.made <= 4


class Connected(Sink):
    """A transport of a client that is there."""

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("127.0.0.1", 4444), "sockname": ("127.0.0.1", 80)}.get(name)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def test_a_request_leaves_no_garbage_in_circles() -> None:
    """Its body would stay until the next search for it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def ask(connection: Any, sink: Connected, n: int) -> None:
        for _ in range(n):
            sink.written = b""
            connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
            while not sink.written.endswith(b"hello"):
                await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def run() -> int:
        life = Life(app, ServeOptions(), lambda: None)
        life.config.load()
        make: Any = life.config.http_protocol_class
        connection = make(config=life.config, server_state=life.server_state, app_state={})
        sink: Any = Connected()
        connection.connection_made(sink)
        await ask(connection, sink, 3)
        gc.collect()
        gc.disable()
        try:
            await ask(connection, sink, 20)
            return gc.collect()
        finally:
            gc.enable()
            connection.connection_lost(None)

    assert asyncio.run(run()) == 0
