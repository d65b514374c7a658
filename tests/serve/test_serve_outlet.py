"""Log lines for a reader that is slow or has gone: nobody waits for it, and what is left out is said."""

from __future__ import annotations

import json
import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import pytest

from pilotfish.serve.report.logs import LONGEST, Log
from pilotfish.serve.report.outlet import MOST
from support.server import LONG, serving

PNG = {"Content-Type": "image/png"}
Ends = tuple[int, TextIO]
"""(where to read, where to write)"""


def pipe() -> tuple[int, int]:
    return os.pipe()


def a_pipe_that_never_waits() -> tuple[int, int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, writer


def sockets() -> tuple[int, int]:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def terminal() -> tuple[int, int]:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


@pytest.fixture(params=[pipe, a_pipe_that_never_waits, sockets, terminal], ids=lambda make: make.__name__)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    reader, writer = request.param()
    with ExitStack() as held:
        stream = held.enter_context(open(writer, "w", encoding="utf-8"))
        held.callback(os.close, reader)
        yield reader, stream


def ended(work: Callable[[], object]) -> bool:
    """Whether *work* ends, in a thread that may hang."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONG / 6)
    return not thread.is_alive()


def lines_of(reader: int, log: Log) -> list[str]:
    """All lines up to the one that says ``the end``, which is logged once there is room."""
    found, asked = b"", False
    while b"the end" not in found:
        found += os.read(reader, 1 << 16)
        if not asked and b"were omitted" in found:
            asked = True
            log("note", "the end")
    return found.decode().splitlines()


def test_nobody_waits_for_a_reader_and_what_is_left_out_is_said(ends: Ends) -> None:
    reader, stream = ends
    log, n = Log("json", stream), 3 * MOST // LONGEST
    assert ended(lambda: [log("request", f"{i} " + "x" * (LONGEST - 100)) for i in range(n)])
    said = [json.loads(line) for line in lines_of(reader, log)]
    written = [int(line["message"].split()[0]) for line in said if line["event"] == "request"]
    assert written == list(range(len(written)))
    [left_out] = [line for line in said if "omitted" in line["message"]]
    assert (left_out["level"], left_out["message"].split()[0]) == ("error", str(n - len(written)))
    assert 0 < len(written) < n


def test_a_reader_that_is_behind_loses_nothing(ends: Ends) -> None:
    reader, stream = ends
    log, found = Log("text", stream), b""
    assert ended(lambda: [log("note", f"{i} " + "é" * (2000 if i % 50 == 0 else 20)) for i in range(2000)])
    while b" 1999 " not in found:
        found += os.read(reader, 1 << 16)
    numbers = [line.split()[3] for line in found.decode().splitlines()]
    assert numbers == [str(i) for i in range(2000)]
    log.settle(LONG)


def test_a_reader_that_goes_away_ends_nothing() -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        log = Log("text", stream)
        assert ended(lambda: [log("note", "x" * 1000) for _ in range(200)])
        os.close(reader)
        log.settle(LONG)
        log("note", "to nobody")


def test_a_full_device_ends_nothing() -> None:
    stream = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    log = Log("text", stream)
    for _ in range(100):
        log("note", "x" * 1000)
    stream.close()


def test_requests_are_answered_while_nobody_reads_the_log(
    cascade_folder: Path, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        os.set_blocking(writer, False)
        while True:  # it is full
            try:
                os.write(writer, b"." * 512)
            except BlockingIOError:
                break
        os.set_blocking(writer, True)
        monkeypatch.setattr("sys.stderr", stream)
        with serving({"pair": cascade_folder}, access_log=True) as server:
            asked: list[int] = []
            assert ended(lambda: asked.extend(server.ask("POST", "/predict", photos[0], PNG).status for _ in range(20)))
            assert asked == [200] * 20
        os.close(reader)
