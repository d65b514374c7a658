"""Log lines: one event a line whatever clients send; ids in and out; no secrets."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from pilotfish.errors import ArtefactError, ModelError
from pilotfish.serve.http.request_ids import LONGEST, RequestIds, ids_of
from pilotfish.serve.report.logs import Log, relay
from support.server import serving

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NASTY = [
    "one\ntwo",
    "\r\n{}\r\n",
    '","level":"error","x":"',
    "\x1b[2J",
    "a\u2028b\u202e",
    "\ud800",
    "\x00",
    "é" * 5000,
]


def written(form: str, write: Any) -> list[str]:
    stream = io.StringIO()
    write(Log(form, stream))
    text = stream.getvalue()
    assert text.endswith("\n")
    return text[:-1].split("\n")


# Lines


@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_is_sent_is_one_json_object_and_says_the_same(nasty: str) -> None:
    (line,) = written("json", lambda log: log("request", nasty, path=nasty, nested={"deep": [nasty]}))
    found = json.loads(line)
    assert set(found) == {"time", "level", "event", "message", "path", "nested"}
    assert (found["level"], found["event"]) == ("info", "request")
    assert found["path"] == (nasty if len(nasty) < 2000 else nasty[:1999] + "…")
    assert line.isprintable()


@pytest.mark.parametrize("nasty", NASTY)
def test_whatever_is_sent_is_one_line_of_text(nasty: str) -> None:
    (line,) = written("text", lambda log: log("request", nasty, path=nasty, status=200))
    assert line.isprintable()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info request path=", line)
    assert " status=200 " in line


def test_a_value_cannot_pass_for_another_field() -> None:
    (line,) = written("text", lambda log: log("request", "x", path="/a status=500", plain="word", none=None))
    assert 'path="/a status=500" plain=word x' in line
    assert "none" not in line


def test_the_ready_line_is_what_scripts_wait_for() -> None:
    assert written("text", lambda log: log("ready", "ready http://127.0.0.1:8000")) == ["ready http://127.0.0.1:8000"]
    (line,) = written("json", lambda log: log("ready", "ready http://127.0.0.1:8000"))
    assert json.loads(line)["message"] == "ready http://127.0.0.1:8000"


def test_an_error_says_where_it_was_raised_in_one_line() -> None:
    def write(log: Log) -> None:
        try:
            raise ValueError("broken\nin two")
        except ValueError as error:
            log.error("it failed", error, request="r1")

    (line,) = written("json", write)
    found = json.loads(line)
    assert found["error"] == "ValueError: broken\nin two"
    assert "test_serve_logs.py:" in found["where"]
    assert found["request"] == "r1"


def test_a_closed_stream_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    Log("json", stream)("move", "no reader")
    monkeypatch.setattr("sys.stderr", None)
    Log()("move", "a service may have none at all")


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("pilotfish-test-library")
    yield found
    found.handlers, found.propagate = [], True


def test_another_library_s_warnings_and_errors_are_events(logger: logging.Logger) -> None:
    def write(log: Log) -> None:
        relay(logger.name, log)
        relay(logger.name, log)  # twice is once
        logger.info("unseen")
        logger.warning("odd %s", "line\nend")
        try:
            raise KeyError("k")
        except KeyError:
            logger.exception("bad")

    first, second = (json.loads(line) for line in written("json", write))
    assert (first["event"], first["level"], first["message"]) == ("library", "warning", "odd line\nend")
    assert (second["event"], second["level"], second["error"]) == ("error", "error", "KeyError: 'k'")


def test_a_fault_of_every_input_is_one_line_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("pilotfish.serve.report.logs.time.monotonic", lambda: now[0])

    def write(log: Log) -> None:
        for step in (0, 0.1, 0.5, 0.5, 0.2):
            now[0] += step
            log.seldom("one", "error", "the same again", "error")
        log.seldom("another", "error", "something else", "error")

    found = [json.loads(line) for line in written("json", write)]
    assert [line["message"] for line in found] == ["the same again", "the same again", "something else"]
    assert [line.get("left_out") for line in found] == [None, 2, None]


# Ids


@pytest.mark.parametrize("given", ["a", "6f9619ff-8b86-d011-b42d-00cf4fc964ff", "x" * LONGEST])
def test_an_id_that_is_given_is_kept(given: str) -> None:
    assert ids_of([(b"x-request-id", given.encode())]) == (given, None)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"x-request-id", b"")],
        [(b"x-request-id", b"two words")],
        [(b"x-request-id", b"line\nend")],
        [(b"x-request-id", b"\xff")],
        [(b"x-request-id", b"x" * (LONGEST + 1))],
        [(b"x-request-id", b"one"), (b"x-request-id", b"two")],
        [(b"x-request-id", b"one"), (b"x-request-id", b"two"), (b"x-request-id", b"three")],
    ],
)
def test_an_id_that_cannot_be_kept_is_made(headers: list[tuple[bytes, bytes]]) -> None:
    (made, _), (other, _) = ids_of(headers), ids_of(headers)
    assert re.fullmatch("[0-9a-f]{32}", made)
    assert made != other


@pytest.mark.parametrize(
    ("given", "fine"),
    [
        (TRACE, True),
        (TRACE.replace("00-4", "01-4") + "-more", True),
        (TRACE.upper(), False),
        (TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32), False),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), False),
        ("ff" + TRACE[2:], False),
        (TRACE + "\n", False),
        ("", False),
    ],
)
def test_a_trace_is_passed_on_where_it_is_one(given: str, fine: bool) -> None:
    assert ids_of([(b"traceparent", given.encode())])[1] == (given if fine else None)


# Around an application


def asked(app: Any, log: Log, *headers: tuple[bytes, bytes], path: str = "/predict") -> tuple[int, dict[str, str], Any]:
    """(status, headers, scope) of one request to *app*."""
    sent: list[Any] = []
    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"token=hidden",
        "headers": list(headers), "client": ("10.0.0.7", 5), "state": {},
    }  # fmt: skip

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"secret body"}

    asyncio.run(RequestIds(app, log)(scope, receive, send))
    start = sent[0]
    return start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, scope


async def fine(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"pilotfish-stages", b"0,1")]})
    await send({"type": "http.response.body", "body": b"{}"})


async def broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("no such thing")


def test_ids_come_back_and_handlers_have_them() -> None:
    log = Log("json", io.StringIO())
    status, headers, scope = asked(fine, log, (b"x-request-id", b"mine"), (b"traceparent", TRACE.encode()))
    assert (status, headers["x-request-id"], headers["traceparent"]) == (200, "mine", TRACE)
    assert scope["state"]["request_id"] == "mine"
    assert "traceparent" not in asked(fine, log)[1]


@pytest.mark.parametrize("form", ["json", "text"])
def test_requests_are_logged_if_asked_and_without_secrets(form: str) -> None:
    stream = io.StringIO()
    secrets = [(b"authorization", b"Bearer topsecret"), (b"cookie", b"topsecret")]
    asked(fine, Log(form, stream), *secrets)
    assert stream.getvalue() == ""
    asked(fine, Log(form, stream, access=True), (b"x-request-id", b"mine"), *secrets, path="/predict")
    (line,) = stream.getvalue().splitlines()
    for part in ("mine", "POST /predict 200", "10.0.0.7", "0,1"):
        assert part in line
    for part in ("hidden", "topsecret", "secret body"):
        assert part not in line


def test_what_nobody_caught_is_a_500_with_an_id_and_a_line() -> None:
    stream = io.StringIO()
    status, headers, _ = asked(broken, Log("json", stream), (b"x-request-id", b"mine"))
    assert (status, headers["x-request-id"]) == (500, "mine")
    found = json.loads(stream.getvalue())
    assert (found["event"], found["request"], found["error"]) == ("error", "mine", "RuntimeError: no such thing")


# A server


def test_a_server_tells_of_requests_moves_and_its_end(cascade_folder: Path, photos: list[bytes]) -> None:
    stream, bearer = io.StringIO(), {"Authorization": "Bearer 0123456789abcdef", "X-Request-Id": "second"}
    options: dict[str, Any] = {"access_log": True, "log_format": "json", "tokens": {"0123456789abcdef": "ann"}}
    with serving({"pair": cascade_folder}, **options) as at:
        at.server.log._stream = stream
        first = at.ask("POST", "/predict", photos[0], {"content-type": "image/png", "x-request-id": "first"})
        at.ask("PUT", "/v2/models/pair/operating_point?token=hidden", {"max_drop": 0}, bearer)
        at.ask("GET", "/nowhere%c3%a9%0aline")
    assert first.headers["x-request-id"] == "first"
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    asked, move, moving, unknown, drain = lines
    assert [line["event"] for line in lines] == ["request", "move", "request", "request", "drain"]
    assert (asked["request"], asked["status"], asked["operating_point"]) == ("first", 200, "1")
    assert [line.get("model") for line in lines] == ["pair", "pair", "pair", None, None]
    assert asked["stages"] == str(first.json["answers"][0]["stage"])
    assert (move["client"], move["request"], move["operating_point"]) == ("ann", "second", "2")
    assert (moving["client"], moving["message"]) == ("ann", "PUT /v2/models/pair/operating_point 200")
    assert (unknown["status"], unknown["message"]) == (404, "GET /nowhere%c3%a9%0aline 404")
    assert drain["level"] == "info"
    assert "0123456789abcdef" not in stream.getvalue()
    assert "hidden" not in stream.getvalue()


class Broken:
    name = "broken"

    def step(self, inputs: Any, carry: Any = None) -> Any:
        raise ModelError("the base is\nbroken")


@pytest.mark.parametrize("when", ["fail", "flag"])
def test_a_base_that_fails_is_told_and_counted(cascade_folder: Path, photos: list[bytes], when: str) -> None:
    stream = io.StringIO()
    with serving({"pair": cascade_folder}, log_format="json", when_base_fails=when) as at:
        at.server.log._stream, hosted = stream, at.server.hosted()
        hosted.engine.stages[1] = replace(hosted.engine.stages[1], backend=Broken(), alone=None)
        for photo in photos[:12]:
            at.ask("POST", "/predict", photo, {"content-type": "image/png", "x-request-id": "mine"})
        counted = {"fail": hosted.meter.causes.errors["model"], "flag": hosted.meter.flags["base_failed"]}
    assert counted[when] > 2
    assert counted["flag" if when == "fail" else "fail"] == 0
    first = json.loads(stream.getvalue().splitlines()[0])
    assert (first["event"], first["level"], first["request"]) == ("error", "error", "mine")
    assert first["message"].endswith("the base is\nbroken")
    assert len(stream.getvalue().splitlines()) <= counted[when] + 1  # with that of the end


def test_a_folder_that_is_loaded_again_is_told_and_counted(cascade_folder: Path) -> None:
    stream = io.StringIO()
    with serving({"pair": cascade_folder}, log_format="json") as at:
        at.server.log._stream, hosted = stream, at.server.hosted()
        at.server._reloaded(hosted, None)
        at.server._reloaded(hosted, ArtefactError("cut off\nin the middle"))
        assert hosted.meter.reloads == {"loaded": 1, "failed": 1}
    well, badly, _ = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (well["event"], well["level"], well["operating_point"]) == ("reload", "info", "1")
    assert (badly["event"], badly["level"]) == ("reload", "error")
    assert "cut off" in badly["message"]


def test_a_bug_is_told_and_counted_and_the_server_goes_on(
    cascade_folder: Path, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    with serving({"pair": cascade_folder}, log_format="json") as at:
        at.server.log._stream, hosted = stream, at.server.hosted()
        with monkeypatch.context() as patched:
            patched.setattr(hosted, "answer", lambda *_: 1 // 0)
            failed = at.ask("POST", "/predict", photos[0], {"content-type": "image/png", "x-request-id": "mine"})
        assert (failed.status, failed.headers["x-request-id"]) == (500, "mine")
        assert list(failed.json) == ["error"]
        assert at.server.causes.errors["internal"] == 1
        assert at.ask("POST", "/predict", photos[0], {"content-type": "image/png"}).status == 200
    found = json.loads(stream.getvalue().splitlines()[0])
    assert (found["event"], found["request"]) == ("error", "mine")
    assert found["error"].startswith("ZeroDivisionError")
